"""The built-in shop: a catalog, visitors, and choices whose true probabilities are known."""

from cascade.data.generator.config import SIZES, ShopConfig
from cascade.data.generator.shop import Shop, generate

__all__ = ["SIZES", "Shop", "ShopConfig", "generate"]
