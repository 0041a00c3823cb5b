"""What each choice on the request path is worth: variants run side by side, asked in turn, compared as ratios."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bench.load import Load, Requests, requests_of
from bench.report import Report
from bench.request_path import click
from bench.system import Running, System, system

CANDIDATES = 300
PUBLISHED = "the published system reports 195 ms before and 0.5 ms after"


def run(report: Report) -> None:
    """Measure and tell."""
    seconds, rounds = (2.0, 2) if report.quick else (4.0, 5)
    with system() as running:
        item_features(report, running)
        services = running.services()
        requests = requests_of(running.users)
        click(running, services["gateway"].url)
        base = services["gateway"]
        compare(
            report, requests, seconds, rounds, "overlap", "Filter and ranker: one after the other, or at once",
            {"sequential": base, "overlapped": running.gateway(services, CASCADE_GATEWAY_OVERLAP="true")}, (1, 16),
            "Asked at once, the filter's time hides behind the ranker's; the ranker scores what the filter drops, "
            "and returns all 300 instead of ten.",
        )  # fmt: skip
        one_by_one = {"CASCADE_RANKER_BATCH_MAX_SIZE": "1", "CASCADE_RETRIEVAL_BATCH_MAX_SIZE": "1"}
        compare(
            report, requests, seconds, rounds, "batching", "Micro-batching: on, or one request at a time",
            {"batched": base, "one by one": with_models(running, services, one_by_one)}, (1, 16),
            "Requests that arrive while a batch is computed share the next forward pass and index search.",
        )  # fmt: skip
        threads = {"CASCADE_RANKER_BATCH_IN_THREAD": "true", "CASCADE_RETRIEVAL_BATCH_IN_THREAD": "true"}
        compare(
            report, requests, seconds, rounds, "thread", "Batches: computed in the loop, or in a thread beside it",
            {"in the loop": base, "in a thread": with_models(running, services, threads)}, (1, 16),
            "A thread costs two hand-overs of the interpreter lock a batch; the loop reads nothing while it computes.",
        )  # fmt: skip


def with_models(running: System, services: Mapping[str, Running], environment: Mapping[str, str]) -> Running:
    """A gateway over a retrieval and a ranker of its own, with these settings."""
    behind = {name: running.service(name, **environment) for name in ("retrieval", "ranker")}
    return running.gateway({**services, **behind})


def compare(
    report: Report,
    requests: Requests,
    seconds: float,
    rounds: int,
    name: str,
    title: str,
    gateways: Mapping[str, Running],
    concurrencies: tuple[int, ...],
    why: str,
) -> None:
    """Ask the variants in turn, so that a slow minute of the machine meets all of them."""
    report.say(f"## {title}", why)
    rows = []
    for gateway in gateways.values():
        requests.load(gateway.url, 4, 2.0)
    first, second = gateways
    for concurrency in concurrencies:
        found: dict[str, list[Load]] = {variant: [] for variant in gateways}
        for _ in range(rounds):
            for variant, gateway in gateways.items():
                found[variant].append(requests.load(gateway.url, concurrency, seconds))
        for variant, some in found.items():
            cells = [statistics.median(pick(one) for one in some) for pick in (_p50, _p99, _rate)]
            rows.append((concurrency, variant, *(f"{cell:.2f}" for cell in cells)))
        for label, pick in (("p50", _p50), ("rps", _rate)):
            ratios = [pick(b) / pick(a) for a, b in zip(found[first], found[second], strict=True)]
            report.figure(f"{name}.c{concurrency}.{label}", ratios, "ratio", note=f"{second} : {first}")
    report.table(("concurrency", "variant", "p50 ms", "p99 ms", "requests/s"), rows)


def _p50(load: Load) -> float:
    return load.p50


def _p99(load: Load) -> float:
    return load.p99


def _rate(load: Load) -> float:
    return load.per_second


def item_features(report: Report, running: System) -> None:
    """The features of 300 items: fetched from Feast's online store for the request, or from the table in memory."""
    from cascade.features.item_table import ItemTable
    from cascade.store import ModelStore
    from cascade.store.artifacts import RankerArtifacts

    store = ModelStore(running.settings.model_store_url)
    table: ItemTable = RankerArtifacts.load(store.bundle("ranker", "stable").path).items
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        fetch = _feast_fetch(Path(folder), running.redis_url, table)
        feast, memory = [], []
        for _ in range(3 if report.quick else 10):  # in turn
            ids = [table.item_ids[at] for at in rng.choice(len(table), CANDIDATES, replace=False)]
            feast.append(1000 * _seconds(lambda ids=ids: fetch(ids)))
            memory.append(1000 * _seconds(lambda ids=ids: _gather(table, ids), 50))
    report.say(
        "## Item features: Feast for each request, or in memory",
        f"{CANDIDATES} items, a category each of two levels, audience, price and both 64-dimensional embeddings. "
        f"Cascade keeps them in the ranker's bundle ({PUBLISHED}).",
    )
    report.figure("item_features.feast", feast, "ms")
    report.figure("item_features.memory", memory, "ms", at_most=0.05)
    report.figure(
        "item_features.ratio", [a / b for a, b in zip(feast, memory, strict=True)], "ratio", note="Feast : memory"
    )


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    """Of one go; the median of several."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def _gather(table, ids):  # type: ignore[no-untyped-def]
    at = table.positions(ids)
    return table.categorical[at], table.continuous[at], table.image[at], table.text[at]


def _feast_fetch(folder: Path, redis_url: str, table):  # type: ignore[no-untyped-def]
    """A Feast project of its own with the items in it; gives a function that reads some of them."""
    from datetime import UTC, datetime

    import pandas as pd

    from cascade.online.feast_config import connection_string, import_feast

    import_feast()
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Array, Float32, Int32

    names = [f"c{n}" for n in range(table.categorical.shape[1])]
    schema = [Field(name=name, dtype=Int32) for name in names] + [Field(name="price", dtype=Float32)]
    schema += [Field(name=name, dtype=Array(Float32)) for name in ("image", "text")]
    item = Entity(name="item_id", join_keys=["item_id"], value_type=ValueType.STRING)
    frame = pd.DataFrame(
        {
            "item_id": table.item_ids,
            **{name: table.categorical[:, n] for n, name in enumerate(names)},
            "price": table.continuous[:, 0].astype(np.float64),
            "image": list(table.image),
            "text": list(table.text),
            "event_timestamp": pd.Series([datetime(2026, 1, 5, tzinfo=UTC)] * len(table), dtype="datetime64[us, UTC]"),
        }
    )
    frame.to_parquet(folder / "items.parquet")
    source = FileSource(path=str(folder / "items.parquet"), timestamp_field="event_timestamp")
    view = FeatureView(name="bench_items", entities=[item], schema=schema, source=source, online=True)
    store = FeatureStore(
        config=RepoConfig(
            project="cascade_bench",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "redis", "connection_string": connection_string(redis_url)},
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )
    store.apply([item, view])
    store.write_to_online_store("bench_items", frame)
    wanted = [f"bench_items:{field.name}" for field in schema]
    return lambda ids: store.get_online_features(wanted, [{"item_id": one} for one in ids]).to_dict()
