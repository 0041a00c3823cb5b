"""What the bench measured, in seconds and bytes: `bench/results/latest.json`, or the few figures packaged here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cascade.capacity.errors import CapacityFileError

LATEST = Path("bench/results/latest.json")
"""Where a checkout has them."""

CONCURRENCIES = (1, 4, 16, 64)
"""Loads under which the bench took the processor time of a request."""
PROCESSES = ("gateway", "retrieval", "filter", "ranker", "redis")
MEASURED_CATALOG = 2_465
"""items of the shop that the bench's requests went through"""
CATALOGS = {10_000: "10k", 100_000: "100k", 1_000_000: "1m"}
"""catalogs whose index was measured"""
ITEM_TABLES = (MEASURED_CATALOG, 100_000, 1_000_000)
"""catalogs whose items the ranker's stages were measured with"""

NAMES = (
    *(f"request_path.c{load}.cpu.{process}" for load in CONCURRENCIES for process in PROCESSES),
    "floor.stage.search_flat",
    *(f"catalog_scale.{label}.chosen.{what}" for label in CATALOGS.values() for what in ("p50", "memory")),
    *(f"stages.items.{items}.{part}" for items in ITEM_TABLES for part in ("positions", "ids", "dlrm", "gather.plain")),
    "stages.dlrm.b16",
    "stages.ranker_engine.b1",
    "stages.ranker_engine.b1.plain",
    "online.worker.events_per_s",
    "filter.memory.full_user",
    *(
        f"memory.{name}"
        for name in (
            "vocabulary.per_user", "embedding.per_user", "item_table.per_item", "packed.per_item", "flat.per_item",
            "item_to_item.per_item",
            "retrieval_ids.per_item", "catalog.per_item", "redis.features.per_user", "redis.recent.per_user",
        )
    ),
)  # fmt: skip
"""Every figure that a plan is made of."""

_UNITS = {
    "ms": 1e-3, "ms of processor a request": 1e-3, "µs": 1e-6, "s": 1.0, "bytes": 1.0, "MB": 1e6, "events/s": 1.0,
}  # fmt: skip
_PACKAGED = "data/costs.json"


@dataclass(frozen=True)
class Costs:
    """Figures by name. source: where they are from; figures: seconds, bytes and events a second"""

    source: str
    figures: Mapping[str, float]

    @classmethod
    def load(cls, path: Path | None = None) -> Costs:
        """Of a file like `latest.json`; None: the checkout's where the working folder is one, else the packaged copy.

        Raises CapacityFileError, which names every figure that is missing.
        """
        if path is None and not LATEST.is_file():
            text = resources.files("cascade.capacity").joinpath(_PACKAGED).read_text()
            return cls.of(json.loads(text), "the bench's figures packaged with this release")
        path = path or LATEST
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CapacityFileError(f"no costs can be read from {path}: {error}; `make bench` writes them") from error
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Any, source: str) -> Costs:
        """Of what such a file holds."""
        found = content.get("figures") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise CapacityFileError(f"{source} holds no `figures`; give a file that `make bench` wrote")
        missing = [name for name in NAMES if name not in found]
        if missing:
            areas = ", ".join(sorted({name.partition(".")[0] for name in missing}))
            raise CapacityFileError(
                f"{source} lacks {', '.join(missing)}; `python -m bench` measures them (areas: {areas})"
            )
        return cls(source, {name: _seconds_or_bytes(name, found[name], source) for name in NAMES})

    def __getitem__(self, name: str) -> float:
        return self.figures[name]


def _seconds_or_bytes(name: str, figure: Any, source: str) -> float:
    try:
        value = float(figure["value"]) * _UNITS[figure["unit"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CapacityFileError(
            f"{name} in {source} is {figure!r}; give value and unit ({', '.join(_UNITS)})"
        ) from error
    if not (math.isfinite(value) and value > 0):
        raise CapacityFileError(f"{name} in {source} is {figure['value']!r}; give a number above 0")
    return value


def grown(points: Mapping[int, float], size: int) -> float:
    """A figure at a size between or beyond those measured, by straight lines between their logarithms.

    Below the smallest it is the smallest's; beyond the largest the last line goes on. It never falls as the size grows:
    what was measured smaller at a larger size is taken for noise.
    """
    sizes = sorted(points)
    values = [max(points[one] for one in sizes if one <= limit) for limit in sizes]
    if size <= sizes[0]:
        return values[0]
    right = next((place for place, one in enumerate(sizes) if one >= size), len(sizes) - 1)
    left = right - 1
    slope = math.log(values[right] / values[left]) / math.log(sizes[right] / sizes[left])
    return float(values[right] * (size / sizes[right]) ** slope)
