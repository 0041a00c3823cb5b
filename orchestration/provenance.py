"""What an asset was made of, as one digest: its code version, the settings it reads, the digests of its inputs.

The digest is Dagster's data version of the asset, and lies beside the artifact. An artifact whose digest is the one
expected is whole and current, so that a build skips it; anything else is made again. No cache is trusted because a
file exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import dagster as dg

from cascade.data.contract import Dataset
from cascade.settings import Settings
from orchestration.base import recorded_base

PROVENANCE_FILE = "provenance.json"
"""Beside the artifact: its digest, when it was made and by which run, and what that took."""

SETTINGS = "cascade/settings"
"""Metadata key of an asset: names of the settings it reads."""

DAYS = "train_share"
"""An asset that reads this setting is made of the base's days."""


def reads(*settings: str) -> dict[str, Any]:
    """Metadata for an asset that reads these settings."""
    unknown = set(settings) - set(Settings.model_fields)
    if unknown:
        raise ValueError(f"no such settings: {sorted(unknown)}")
    return {SETTINGS: list(settings)}


class Provenance:
    """Expected digests of all assets under the given settings."""

    def __init__(self, assets: list[dg.AssetsDefinition], settings: Settings) -> None:
        self._specs: Mapping[dg.AssetKey, dg.AssetSpec] = {spec.key: spec for asset in assets for spec in asset.specs}
        self._settings = settings
        self.digest = cache(self._digest)

    def _digest(self, key: dg.AssetKey) -> str:
        """Hex digest (16 characters) expected of an asset."""
        spec = self._specs[key]
        parts: dict[str, Any] = {
            "asset": key.to_user_string(),
            "code": spec.code_version,
            "settings": {name: str(getattr(self._settings, name)) for name in spec.metadata.get(SETTINGS, [])},
            "inputs": sorted(self.digest(dep.asset_key) for dep in spec.deps if dep.asset_key != key),
        }
        base = recorded_base(self._settings)
        if base is not None and base.retrained is not None and DAYS in spec.metadata.get(SETTINGS, []):
            parts["retrained"] = base.retrained
        if not spec.deps and self._settings.own_shop:
            parts["dataset"] = Dataset(self._settings.dataset_dir).fingerprint(
                until=None if base is None else base.days[-1], items=None if base is None else base.items
            )
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def inputs(self, asset: str) -> list[str]:
        """What the asset is made of directly, itself (its partition before) left out."""
        key = dg.AssetKey(asset)
        return [dep.asset_key.to_user_string() for dep in self._specs[key].deps if dep.asset_key != key]

    def ordered(self) -> list[dg.AssetKey]:
        """All assets, inputs before what is made of them."""
        ordered: list[dg.AssetKey] = []

        def visit(key: dg.AssetKey) -> None:
            for dep in self._specs[key].deps:
                if dep.asset_key not in ordered and dep.asset_key != key:
                    visit(dep.asset_key)
            if key not in ordered:
                ordered.append(key)

        for key in self._specs:
            visit(key)
        return ordered
