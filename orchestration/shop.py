"""The built-in shop under the project's settings."""

from __future__ import annotations

from dataclasses import replace

from cascade.data.generator import SIZES, ShopConfig
from cascade.settings import Settings


def built_in_config(settings: Settings) -> ShopConfig:
    """The generator's configuration of the size, first day and seed that the settings name."""
    return replace(SIZES[settings.shop_size], first_day=settings.shop_first_day, seed=settings.seed)
