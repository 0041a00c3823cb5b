"""Where assets keep what they make: one folder an asset, written whole, with the digest of what it was made of."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cascade.data.contract import Dataset
from cascade.data.split import DaySplit
from cascade.files import replacing_folder
from cascade.settings import Settings
from cascade.store import ModelStore
from orchestration import passed
from orchestration.base import base_of, own_days, recorded_base
from orchestration.measure import Cost, measured
from orchestration.progress import Report, reporter
from orchestration.provenance import PROVENANCE_FILE, Provenance

if TYPE_CHECKING:
    CheckedResult = dg.MaterializeResult[None]
else:
    CheckedResult = dg.MaterializeResult
    """What an asset with checks of its own is annotated with: Dagster reads the bare class alone."""


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

    def result(self, *checks: dg.AssetCheckResult) -> dg.MaterializeResult[None]:
        """What the asset returns, with the results of the checks that it makes itself."""
        cost = _shown(self.cost)
        return dg.MaterializeResult(
            metadata={**self.metadata, **cost}, data_version=dg.DataVersion(self.digest), check_results=checks or None
        )


class Workspace:
    """The state folder as assets see it.

    blocking: asset → its checks that what reads it has to wait for (`checks.BLOCKING`)
    """

    def __init__(
        self, settings: Settings, provenance: Provenance, blocking: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.settings = settings
        self.provenance = provenance
        self._blocking = blocking or {}

    # What is there

    def folder(self, asset: str, part: str | None = None) -> Path:
        """The artifact of an asset, or of one of its partitions that has a folder of its own."""
        whole = self.settings.artifacts_dir / asset
        return whole if part is None else whole / part

    def digest(self, asset: str) -> str:
        """The digest an asset's artifact has when it is current."""
        return self.provenance.digest(dg.AssetKey(asset))

    def is_current(self, asset: str, parts: Iterable[str] = ()) -> bool:
        """Whether the artifact, with all of these parts, is whole and made of what it would be made of now."""
        whole = self.recorded(asset).get("digest") == self.digest(asset)
        return whole and all((self.folder(asset) / part).exists() for part in parts)

    def recorded(self, asset: str, part: str | None = None) -> dict[str, Any]:
        """What the artifact's provenance file says; empty where there is none that can be read."""
        try:
            content: dict[str, Any] = json.loads((self.folder(asset, part) / PROVENANCE_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content

    def unpassed(self, asset: str) -> list[str]:
        """Blocking checks of the asset that its artifact, as it lies there, is not known to have passed."""
        return passed.missing(self.folder(asset), self._blocking.get(asset, ()))

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
        return base_of(self.settings).split

    def checkpoints(self, asset: str, digest: str | None = None) -> Path:
        """Where an interrupted training resumes from; it belongs to one digest and goes when the asset is whole."""
        return self.settings.artifacts_dir / ".checkpoints" / f"{asset}-{digest or self.digest(asset)}"

    # Making

    @contextmanager
    def making(
        self,
        context: dg.AssetExecutionContext,
        *,
        extend: bool = False,
        part: str | None = None,
        made_of: Mapping[str, str | None] | None = None,
    ) -> Iterator[Making]:
        """Make the artifact of the running asset, whole or not at all.

        With `extend` the parts it has already, if made of the same, stay: an asset with partitions grows by some.
        With `part` a partition is an artifact of its own, in a folder below the asset's. made_of: what else than code,
        settings and inputs decides the result, such as the version it goes on from; part of its digest.

        Raises Failure where an input has not passed its blocking checks.
        """
        asset = context.asset_key.to_user_string()
        self._require_passed(self.provenance.inputs(asset))
        target = self.folder(asset, part)
        made_of = dict(made_of or {})
        digest = self.digest(asset)
        if part is not None or made_of:
            parts = json.dumps([digest, part, made_of], sort_keys=True)
            digest = hashlib.sha256(parts.encode()).hexdigest()[:16]
        with replacing_folder(target) as fresh:
            if extend and self.is_current(asset):
                shutil.copytree(target, fresh, dirs_exist_ok=True)
            making = Making(fresh, digest, reporter().start(asset, context.log))
            with measured() as cost:
                yield making
            making.cost = cost
            provenance = {
                "asset": asset,
                "digest": making.digest,
                "made_of": made_of,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "run_id": context.run.run_id,
                **_shown(cost),
            }
            (fresh / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2))
        shutil.rmtree(self.checkpoints(asset, digest), ignore_errors=True)
        reporter().finish(asset, f"{cost.peak_mb:,.0f} MB")

    def _require_passed(self, inputs: Iterable[str]) -> None:
        doubtful = [f"{check} of {asset}" for asset in inputs for check in self.unpassed(asset)]
        if doubtful:
            raise dg.Failure(
                f"not known to have passed: {', '.join(doubtful)}; nothing is built on that. "
                "Run the check in Dagster, or the build (`cascade up`), which runs it first"
            )


def _shown(cost: Cost) -> dict[str, float]:
    return {
        "seconds": round(cost.seconds, 2),
        "processor_seconds": round(cost.cpu_seconds, 2),
        "peak_memory_mb": round(cost.peak_mb),
    }


def known_days(settings: Settings) -> list[date]:
    """The shop's own days that the base was chosen from; later ones on disk are the daily loop's."""
    days = own_days(settings)
    base = recorded_base(settings)
    return days if base is None else [day for day in days if day <= base.days[-1]]
