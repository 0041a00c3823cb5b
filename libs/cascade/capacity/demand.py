"""Seconds of one core that a request takes of each service, for a catalog of any size.

What was measured is the processor time of each process with the built-in shop's 2,465 items. A larger catalog adds to
retrieval what its index takes longer to search, and to the ranker what its items take longer to find and to gather.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cascade.capacity.costs import CATALOGS, ITEM_TABLES, MEASURED_CATALOG, Costs, grown
from cascade.capacity.errors import CapacityFileError

CANDIDATES = 300
REDIS_VISITS = 2
"""commands of a recommendation: user features, seen items"""
FLAT_UP_TO = 20_000
"""`cascade.index.build`'s bound"""
FLAT, INVERTED = "flat", "ivf_sq8"


@dataclass(frozen=True)
class Demand:
    """Seconds of a core a request, and what the catalog's size decides.

    packed: the ranker's items are precomputed
    measured: whether an index of this size was; otherwise the last two sizes' line goes on
    """

    gateway: float
    retrieval: float
    filter: float
    ranker: float
    redis: float
    """of one command"""
    event: float
    """of the features worker, an event"""
    search: float
    """of retrieval's: the index"""
    structure: str
    packed: bool
    measured: bool


def demand(costs: Costs, catalog: int, *, concurrency: int = 16, packed: bool = True, speed: float = 1.0) -> Demand:
    """What a request takes.

    concurrency: under which of the bench's loads the processor time was taken (costs.CONCURRENCIES)
    speed: of a core, in cores of the machine that the bench ran on
    """
    cpu = {process: costs[f"request_path.c{concurrency}.cpu.{process}"]
           for process in ("gateway", "retrieval", "filter", "ranker", "redis")}  # fmt: skip
    searches = {MEASURED_CATALOG: costs["floor.stage.search_flat"]} | {
        size: costs[f"catalog_scale.{label}.chosen.p50"] for size, label in CATALOGS.items()
    }
    search = grown(searches, catalog)
    parts = ["positions", "ids", "dlrm" if packed else "gather.plain"]
    larger = sum(
        grown(points, catalog) - points[MEASURED_CATALOG]
        for points in ({size: costs[f"stages.items.{size}.{part}"] for size in ITEM_TABLES} for part in parts)
    )
    plain = 0.0 if packed else costs["stages.ranker_engine.b1.plain"] - costs["stages.ranker_engine.b1"]
    return Demand(
        gateway=cpu["gateway"] / speed,
        retrieval=(cpu["retrieval"] + search - searches[MEASURED_CATALOG]) / speed,
        filter=cpu["filter"] / speed,
        ranker=(cpu["ranker"] + larger + max(0.0, plain)) / speed,
        redis=cpu["redis"] / REDIS_VISITS / speed,
        event=1 / costs["online.worker.events_per_s"] / speed,
        search=search / speed,
        structure=FLAT if catalog <= FLAT_UP_TO else INVERTED,
        packed=packed,
        measured=catalog <= max(CATALOGS),
    )


def ranker_on_gpu(costs: Costs, catalog: int, figures: Path, *, concurrency: int = 16, speed: float = 1.0) -> float:
    """Seconds that a request takes of a ranker with a GPU: its process without the network, and the GPU's own time.

    figures: what `bench/gpu.py --json` wrote on that GPU. Raises CapacityFileError where it measured none.
    """
    name = "ranker.gpu.b16.candidates_per_s"
    try:
        rate = float(json.loads(figures.read_text())[name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CapacityFileError(
            f"{figures} has no `{name}`: nothing is planned for a GPU that was not measured; "
            f"run `python bench/gpu.py --items {catalog} --json {figures}` on one"
        ) from error
    on_cpu = demand(costs, catalog, concurrency=concurrency, speed=speed).ranker
    network = grown({size: costs[f"stages.items.{size}.dlrm"] for size in ITEM_TABLES}, catalog) / speed
    return max(on_cpu - network, on_cpu / 10) + CANDIDATES / rate
