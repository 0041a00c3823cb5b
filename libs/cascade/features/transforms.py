"""The three fitted transforms: raw columns to model inputs, the same code in training and in serving."""

from cascade.features.context import ContextTransform
from cascade.features.item import ItemTransform
from cascade.features.user import UserTransform

__all__ = ["ContextTransform", "ItemTransform", "UserTransform"]
