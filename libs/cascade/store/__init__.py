"""Versioned model bundles: write, verify, alias, load."""

from cascade.store.bundles import Bundle, Manifest
from cascade.store.model_store import ModelStore

__all__ = ["Bundle", "Manifest", "ModelStore"]
