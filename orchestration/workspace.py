"""Where assets keep what they make: one folder an asset, written whole, with the digest of what it was made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from cascade.data.contract import Dataset
from cascade.data.split import DaySplit, split_days
from cascade.files import replacing_folder
from cascade.settings import Settings
from cascade.store import ModelStore
from orchestration.measure import Cost, measured
from orchestration.progress import Report, reporter
from orchestration.provenance import Provenance

PROVENANCE_FILE = "provenance.json"


@dataclass
class Making:
    """One artifact in the making.

    folder: an empty folder to fill; it takes the artifact's place when the work succeeds
    report: progress callback (done, total[, loss])
    metadata: what Dagster shows of the result
    """

    folder: Path
    digest: str
    report: Report
    metadata: dict[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    def result(self) -> dg.MaterializeResult[None]:
        """What the asset returns."""
        cost = {"seconds": round(self.cost.seconds, 2), "peak_memory_mb": round(self.cost.peak_mb)}
        return dg.MaterializeResult(metadata={**self.metadata, **cost}, data_version=dg.DataVersion(self.digest))


class Workspace:
    """The state folder as assets see it."""

    def __init__(self, settings: Settings, provenance: Provenance) -> None:
        self.settings = settings
        self._provenance = provenance

    # What is there

    def folder(self, asset: str) -> Path:
        """The artifact of an asset."""
        return self.settings.artifacts_dir / asset

    def digest(self, asset: str) -> str:
        """The digest an asset's artifact has when it is current."""
        return self._provenance.digest(dg.AssetKey(asset))

    def is_current(self, asset: str, parts: Iterable[str] = ()) -> bool:
        """Whether the artifact, with all of these parts, is whole and made of what it would be made of now."""
        whole = self.recorded(asset).get("digest") == self.digest(asset)
        return whole and all((self.folder(asset) / part).exists() for part in parts)

    def recorded(self, asset: str) -> dict[str, Any]:
        """What the artifact's provenance file says; empty where there is none that can be read."""
        try:
            content: dict[str, Any] = json.loads((self.folder(asset) / PROVENANCE_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content

    @cached_property
    def dataset(self) -> Dataset:
        """The data contract's folder."""
        return Dataset(self.settings.dataset_dir)

    @property
    def store(self) -> ModelStore:
        """Where bundles go."""
        return ModelStore(self.settings.model_store_url)

    def split(self) -> DaySplit:
        """Which days train and evaluate."""
        return split_days(known_days(self.settings), self.settings.train_share, self.settings.kept_days)

    def checkpoints(self, asset: str) -> Path:
        """Where an interrupted training resumes from; it belongs to one digest and goes when the asset is whole."""
        return self.settings.artifacts_dir / ".checkpoints" / f"{asset}-{self.digest(asset)}"

    # Making

    @contextmanager
    def making(self, context: dg.AssetExecutionContext, *, extend: bool = False) -> Iterator[Making]:
        """Make the artifact of the running asset, whole or not at all.

        With `extend` the parts it has already, if made of the same, stay: an asset with partitions grows by some.
        """
        asset = context.asset_key.to_user_string()
        target = self.folder(asset)
        with replacing_folder(target) as fresh:
            if extend and self.is_current(asset):
                shutil.copytree(target, fresh, dirs_exist_ok=True)
            making = Making(fresh, self.digest(asset), reporter().start(asset, context.log))
            with measured() as cost:
                yield making
            making.cost = cost
            provenance = {
                "asset": asset,
                "digest": making.digest,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "run_id": context.run.run_id,
                "seconds": round(cost.seconds, 2),
                "peak_memory_mb": round(cost.peak_mb),
            }
            (fresh / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2))
        shutil.rmtree(self.checkpoints(asset), ignore_errors=True)
        reporter().finish(asset, f"{cost.peak_mb:,.0f} MB")


def known_days(settings: Settings) -> list[date]:
    """All days of the shop: those on disk for one's own, those of the configuration for the built-in one."""
    from orchestration.shop import built_in_config

    if settings.own_shop:
        return Dataset(settings.dataset_dir).days()
    return built_in_config(settings).dates()
