"""The features worker (events a second, lag) and Feast (materialisation, online reads), each beside what it replaced.

A Redis process with the settings of `cascade up` (`appendfsync always`) and the worker's process, on the same cores.
"""

from __future__ import annotations

import asyncio
import io
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from bench.figures import shown
from bench.live_shop import LiveShop, features_worker
from bench.report import Report
from cascade.api.impressions import Impression, ImpressionItem
from cascade.online import keys
from cascade.online.activity import ACTIVITY_FILE, FeastActivity
from cascade.online.connection import connect
from cascade.online.feast_config import (
    ACTIVITY_PUSH_SOURCE,
    ACTIVITY_VIEW,
    ENTITY,
    ONLINE_FEATURES,
    PROFILE_VIEW,
    feature_store,
    import_feast,
)
from cascade.online.feast_rows import feature_field, row_key, timestamp_field
from cascade.online.impressions import ImpressionStream
from cascade.online.interactions import Event, Interactions, RecentItem
from cascade.online.materialise import materialise
from cascade.online.pipelined import PipelinedRedis
from cascade.online.server import RedisServer, free_port
from cascade.online.streams import ConsumerGroup
from services.features.app import load_catalog
from services.features.files import LiveFiles
from services.features.rows import day_of, event_of, event_table

if TYPE_CHECKING:
    from feast import FeatureStore

SEED = 7
NOW = datetime(2026, 1, 10, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CATEGORIES = [f"category-{number}" for number in range(12)]
EVENTS_A_SECOND, LISTS_A_SECOND = 200, 500
LIST_LENGTH = 10
GATHERED_LIMIT_S = 240.0


def run(report: Report) -> None:
    """See the module."""
    import_feast()
    # of the ibis that Feast uses; Feast's import shows them all
    warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        shop = LiveShop(folder)
        users, items = shop.make()
        with _redis(folder / "feast-redis") as server:
            _feast(report, shop, server)
        with _redis(folder / "worker-redis") as server:
            _steps(report, shop, server, users, items)
            _ceiling(report, shop, server, users, items)
            asyncio.run(_lag(report, shop, server, users, items))


def _redis(folder: Path) -> RedisServer:
    return RedisServer(folder, free_port(), appendfsync="always")


# Feast: materialisation and reads


def _feast(report: Report, shop: LiveShop, server: RedisServer) -> None:
    count = 20_000 if report.quick else 100_000
    repeats = 2 if report.quick else 3
    tables = _online_tables(count)
    rows = sum(len(table) for table in tables.values())
    offline = shop.registry.parent / "offline"
    pq.write_table(tables[PROFILE_VIEW], offline / "user_profile.parquet", coerce_timestamps="us")
    pq.write_table(tables[ACTIVITY_VIEW], offline / ACTIVITY_FILE, coerce_timestamps="us")
    store = feature_store(shop.registry, server.url)
    taken: dict[str, list[float]] = {"ours": [], "again": [], "feast": []}
    with redis.Redis.from_url(server.url) as client:

        def ours() -> None:
            for view, table in tables.items():
                materialise(store, client, view, table, EPOCH, NOW)

        for _ in range(repeats):
            client.flushall()
            with _quiet():
                taken["feast"].append(_seconds(lambda: store.materialize(start_date=EPOCH, end_date=NOW)))
            client.flushall()
            taken["ours"].append(_seconds(ours))
            taken["again"].append(_seconds(ours))
        rates = {name: [rows / seconds for seconds in some] for name, some in taken.items()}
        note = f"{count:,} users, two views, {rows:,} rows"
        report.figure("materialise.rows_per_s", rates["ours"], "rows/s", at_least=20_000, note=note)
        report.figure("materialise.rows_per_s.over_existing", rates["again"], "rows/s", note=note)
        report.figure("materialise.rows_per_s.feast", rates["feast"], "rows/s", note="FeatureStore.materialize")
        report.say(
            f"Materialisation: {np.median(rates['ours']) / np.median(rates['feast']):.1f} × Feast's own. Feast builds "
            "protobuf objects for every row, reads every stored timestamp in a round of its own, then writes; "
            "`cascade.online.feast_rows` encodes each distinct value once, and 500 rows are one command, which keeps "
            "a stored value of a later event. What is stored is the same, byte for byte, held by a test."
        )
        _reads(report, store, client, count)


def _online_tables(count: int) -> dict[str, pa.Table]:
    """Profiles of all users, and activity of every third."""
    rng = np.random.default_rng(SEED)
    users = [f"user-{number:06}" for number in range(count)]
    stamp = pa.timestamp("us", tz="UTC")
    yesterday, moments = NOW - timedelta(days=1), rng.integers(0, 86_400, len(users[::3]))
    return {
        PROFILE_VIEW: pa.table(
            {
                ENTITY: users,
                "age": rng.integers(18, 90, count).astype(np.float64),
                "gender": rng.choice(["F", "M"], count).tolist(),
                "event_timestamp": pa.array([yesterday] * count, stamp),
            }
        ),
        ACTIVITY_VIEW: pa.table(
            {
                ENTITY: users[::3],
                "top_category": rng.choice(CATEGORIES, len(users[::3])).tolist(),
                "event_timestamp": pa.array([yesterday + timedelta(seconds=int(one)) for one in moments], stamp),
            }
        ),
    }


def _reads(report: Report, store: FeatureStore, client: redis.Redis, count: int) -> None:
    """One row, and three hundred, as a feature server would fetch the candidates of a request."""
    rng = random.Random(SEED)  # noqa: S311
    views: dict[str, list[str]] = {}
    for one in ONLINE_FEATURES:
        view, feature = one.split(":")
        views.setdefault(view, []).append(feature)
    fields = [
        field
        for view, features in views.items()
        for field in (*(feature_field(view, feature) for feature in features), timestamp_field(view))
    ]

    def feasts(users: list[str]) -> None:
        store.get_online_features(
            features=list(ONLINE_FEATURES), entity_rows=[{ENTITY: user} for user in users]
        ).to_dict()

    def direct(users: list[str]) -> None:
        with client.pipeline(transaction=False) as step:
            for user in users:
                step.hmget(row_key(user), fields)
            step.execute()

    p50: dict[str, float] = {}
    for size, times in ((1, 100 if report.quick else 400), (300, 10 if report.quick else 30)):
        samples: dict[str, list[float]] = {"feast": [], "direct": []}
        for _ in range(3 if report.quick else 5):
            asked = [[f"user-{rng.randrange(count):06}" for _ in range(size)] for _ in range(times)]
            for name, read in (("feast", feasts), ("direct", direct)):
                taken = [_seconds(lambda read=read, users=users: read(users)) for users in asked]  # type: ignore[misc]
                samples[name].append(1000 * float(np.median(taken)))
        for name, some in samples.items():
            what = "get_online_features" if name == "feast" else "HMGET by Feast's keys, values not decoded"
            figure = report.figure(f"read.{name}.{size}_rows.p50", some, "ms", note=what)
            p50[f"{name}.{size}"] = figure.value
    report.say(
        f"One user through Feast's client takes {p50['feast.1'] / p50['direct.1']:.1f} × a direct HMGET, "
        f"300 rows {p50['feast.300'] / p50['direct.300']:.1f} ×: the time goes into Feast's registry look-ups and "
        "protobuf objects, not into Redis. That is why item features live in the ranker's memory."
    )


# The worker, step by step


def _steps(report: Report, shop: LiveShop, server: RedisServer, users: list[str], items: list[str]) -> None:
    """What a batch of 1,000 events costs in each step, in this process; pushes beside Feast's own."""
    batch, repeats = 1000, 3 if report.quick else 7
    catalog = load_catalog(next(path.parent for path in (shop.folder / "models" / "gateway").glob("*/manifest.json")))
    activity = FeastActivity(shop.registry, server.url)
    activity.warm_up()
    store = feature_store(shop.registry, server.url)
    store.config.online_store.skip_dedup = True  # as the worker pushed through it
    files = LiveFiles(shop.folder / "steps")
    taken: dict[str, list[float]] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        taken.setdefault(step, []).append(1e6 * (time.perf_counter() - started) / batch)
        return result

    with redis.Redis.from_url(server.url) as client:
        group = ConsumerGroup(client, keys.EVENTS, "bench", "bench")
        group.ensure()
        _fill_recent(client, users, items)
        for _ in range(repeats):
            _fill_stream(client, batch, users, items)
            entries = timed("read from the stream", lambda: group.read(batch, 0))
            events = timed("parse and check", lambda entries=entries: [event_of(entry, catalog) for entry in entries])
            met = list(dict.fromkeys(event.user_id for event in events))
            pushed = timed(
                "features: recent items, top category, push, look again",
                lambda met=met: activity.refresh(client, met, catalog.get),
            )
            timed("of it: the push", lambda pushed=pushed: activity.push_online(pushed))
            frame = _frame(pushed)
            timed("the same push through Feast, as before", lambda frame=frame: store.push(ACTIVITY_PUSH_SOURCE, frame))
            pairs = [(entry.id, event) for entry, event in zip(entries, events, strict=True)]
            name, ids = files.new_name("interactions", day_of(events[0].timestamp)), [entry.id for entry in entries]
            timed("Parquet: rows, file, sync", lambda n=name, p=pairs: files.write(n, event_table(p)))
            timed("Parquet: take, rename, finish", lambda n=name, i=ids: _finish(group, files, n, i))
        client.xgroup_destroy(keys.EVENTS, "bench")
        client.delete(keys.EVENTS)
    report.table(
        [f"step, batches of {batch:,} events of about as many users", "µs an event"],
        [[step, shown(float(np.median(some)))] for step, some in taken.items()],
    )
    report.figure("push.us_per_user", taken["of it: the push"], "µs", note="1,000 users at once")
    report.figure(
        "push.us_per_user.feast", taken["the same push through Feast, as before"], "µs", note="FeatureStore.push"
    )


def _finish(group: ConsumerGroup, files: LiveFiles, name: str, ids: list[str]) -> None:
    group.take(ids, name)
    files.publish(name)
    group.finish(ids, name)


def _frame(pushed: Mapping[str, Any]) -> Any:
    import pandas as pd

    stamps = [datetime.fromtimestamp(one.at, UTC) for one in pushed.values()]
    return pd.DataFrame(
        {
            ENTITY: list(pushed),
            "top_category": [one.top_category for one in pushed.values()],
            "event_timestamp": pd.Series(stamps, dtype="datetime64[us, UTC]"),
        }
    )


# The worker as a process


def _ceiling(report: Report, shop: LiveShop, server: RedisServer, users: list[str], items: list[str]) -> None:
    """A backlog that gathered while the worker was stopped: how fast it is worked off."""
    count = 10_000 if report.quick else 40_000
    used, features, rows = [], [], []
    with redis.Redis.from_url(server.url) as client, features_worker(shop, server.url) as worker:
        for _ in range(2 if report.quick else 3):
            with worker.held():
                _fill_stream(client, count, users, items)
                last = client.xinfo_stream(keys.EVENTS)["last-generated-id"]
                before = worker.processor_s()
            started = time.perf_counter()
            _wait_for(lambda last=last: _group(client)["last-delivered-id"] == last)
            features.append(count / (time.perf_counter() - started))
            _wait_for(lambda: _group(client)["pending"] == 0)
            rows.append(count / (time.perf_counter() - started))
            used.append(1e6 * (worker.processor_s() - before) / count)
    note = f"a backlog of {count:,} events of {len(users):,} users with fifty recent items each"
    report.figure("worker.events_per_s", rows, "events/s", note=f"features online and rows in Parquet; {note}")
    report.figure("worker.events_per_s.read", features, "events/s", note="until the last one was read")
    report.figure("worker.processor_per_event", used, "µs", note="of the worker's process")
    report.say(
        f"One worker gets through {np.median(rows):,.0f} events a second with Redis on the same cores; more workers "
        "share the stream. The table says where a batch's time goes: most of it reads fifty recent items of every user "
        "met, twice, because whoever pushes looks again whether the items went on meanwhile.",
        "What was changed, measured on a busy machine while it was written: pushes in Feast's format without its "
        "client, 192 → 124 µs a user of a thousand; in one step instead of a pipeline, 37 µs, since `appendfsync "
        "always` then syncs once (a pipeline syncs for every 16 KiB that arrive), and as one command half of that "
        "again; the second look compares what is stored before it "
        "decodes anything; recent items as plain tuples instead of dataclasses, a third off; rows of impressions "
        "column by column, 124 → 26 µs a list.",
    )


async def _lag(report: Report, shop: LiveShop, server: RedisServer, users: list[str], items: list[str]) -> None:
    """From the click's entry in the stream to its user's features online, by the worker's own histogram."""
    seconds = 8 if report.quick else 25
    for name, lists in (("", 0), (".with_impressions", LISTS_A_SECOND)):
        with features_worker(shop, server.url, attribution_s=2) as worker:
            await _traffic(server.url, users, items, 2, lists)  # the first batches warm it up
            await asyncio.sleep(1.0)
            before, used = worker.metrics(), worker.processor_s()
            await _traffic(server.url, users, items, seconds, lists)
            await asyncio.sleep(1.0)
            after, used = worker.metrics(), worker.processor_s() - used
        note = f"{EVENTS_A_SECOND} events/s for {seconds} s" + (f", and {lists} lists/s" if lists else "")
        report.figure(f"worker.lag.p50{name}", 1000 * _quantile(before, after, 0.5), "ms", note=note)
        report.figure(f"worker.lag.p99{name}", 1000 * _quantile(before, after, 0.99), "ms", at_most=1000, note=note)
        report.figure(f"worker.processor_share{name}", 100 * used / seconds, "% of a core", note=note)
    report.say(
        "Lags are read off the histogram `cascade_feature_lag_seconds`, within a bucket in proportion. Half of a cycle "
        "(50 ms) is in it by design: events that come together are pushed together. Clicks are recorded by the "
        "filter's own step, lists written as the gateway writes them, "
        f"{LIST_LENGTH} items each."
    )


async def _traffic(url: str, users: list[str], items: list[str], seconds: float, lists_a_second: int) -> None:
    client, writer = connect(url, timeout_s=5), PipelinedRedis(url, 5)
    try:
        clicks = _clicks(Interactions(client), users, items, seconds)
        lists = _lists(ImpressionStream(writer, 1_000_000), users, items, seconds, lists_a_second)
        await asyncio.gather(clicks, lists)
    finally:
        await client.aclose()
        await writer.aclose()


async def _clicks(interactions: Interactions, users: list[str], items: list[str], seconds: float) -> None:
    rng, started = random.Random(SEED), time.monotonic()  # noqa: S311
    for number in range(int(EVENTS_A_SECOND * seconds)):
        await asyncio.sleep(max(0.0, started + number / EVENTS_A_SECOND - time.monotonic()))
        await interactions.record(_event(rng, users, items))


async def _lists(stream: ImpressionStream, users: list[str], items: list[str], seconds: float, a_second: int) -> None:
    """Twenty batches a second, as the gateway's background task gathers them."""
    rng, started = random.Random(SEED + 1), time.monotonic()  # noqa: S311
    for number in range(int(20 * seconds) if a_second else 0):
        await asyncio.sleep(max(0.0, started + number / 20 - time.monotonic()))
        await stream.append([_list(rng, users, items).model_dump_json() for _ in range(a_second // 20)])


def _event(rng: random.Random, users: Sequence[str], items: Sequence[str]) -> Event:
    kind = rng.choice(["view", "click", "click", "add_to_cart", "purchase"])
    return Event(rng.choice(users), rng.choice(items), int(time.time()), kind, "mobile")


def _list(rng: random.Random, users: Sequence[str], items: Sequence[str]) -> Impression:
    shown_items = [
        ImpressionItem(item_id=item, position=place, score=0.5, propensity=1.0)
        for place, item in enumerate(rng.sample(items, LIST_LENGTH))
    ]
    return Impression(
        request_id=f"{rng.getrandbits(64):x}", user_id=rng.choice(users), timestamp=int(time.time()),
        device_type="mobile", items=shown_items, versions={"ranker": "v1"}, tracks={"ranker": "stable"},
    )  # fmt: skip


def _fill_recent(client: redis.Redis, users: list[str], items: list[str]) -> None:
    """Everyone's recent items are as many as are kept."""
    rng, now = random.Random(SEED), int(time.time())  # noqa: S311
    with client.pipeline(transaction=False) as step:
        for user in users:
            met = (RecentItem(now - age, "click", rng.choice(items)).encode() for age in range(keys.RECENT_MAX))
            step.rpush(keys.recent(user), *met)
        step.execute()


def _fill_stream(client: redis.Redis, count: int, users: list[str], items: list[str]) -> None:
    """Events as the filter's step leaves them for the worker: recent items and entries of the stream."""
    rng = random.Random(SEED)  # noqa: S311
    for start in range(0, count, 2000):
        with client.pipeline(transaction=False) as step:
            for _ in range(min(2000, count - start)):
                event = _event(rng, users, items)
                recent = RecentItem(event.timestamp, event.event_type, event.item_id).encode()
                step.lpush(keys.recent(event.user_id), recent)
                step.ltrim(keys.recent(event.user_id), 0, keys.RECENT_MAX - 1)
                step.xadd(keys.EVENTS, event.fields())  # type: ignore[arg-type]
            step.execute()


def _group(client: redis.Redis) -> dict[str, Any]:
    return next(row for row in client.xinfo_groups(keys.EVENTS) if row["name"] == keys.FEATURES_GROUP.encode())  # type: ignore[union-attr]


def _wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + GATHERED_LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise RuntimeError(f"the worker did not get through its backlog within {GATHERED_LIMIT_S:g} s")
        time.sleep(0.01)


def _quantile(before: Mapping[str, float], after: Mapping[str, float], share: float) -> float:
    """Seconds, of what the lag histogram took in between; within a bucket in proportion."""
    name = 'cascade_feature_lag_seconds_bucket{le="'
    bounds = [(float(key[len(name) : -2]), after[key] - before.get(key, 0.0)) for key in after if key.startswith(name)]
    wanted, low, below = share * bounds[-1][1], 0.0, 0.0
    for high, cumulative in bounds:
        if cumulative >= wanted:
            inside = (wanted - below) / max(cumulative - below, 1e-9)
            return low + inside * (high - low) if np.isfinite(high) else low
        low, below = high, cumulative
    return low


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Feast prints of its progress."""
    with redirect_stdout(io.StringIO()):
        yield
