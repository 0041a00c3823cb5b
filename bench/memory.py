"""What a user and an item take in memory: in Redis, and in each process that holds a bundle. For `cascade capacity`.

Bytes are counted, not timed: Python's and NumPy's allocations by tracemalloc, Arrow's by its own pool, Redis's by
`used_memory`, which includes what its dictionary adds to each key. So a busy machine gives the same figures.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import redis

from bench import synthetic
from bench.report import Report
from cascade.data.generator import SIZES, Shop
from cascade.features.popularity import Popularity
from cascade.features.vocabulary import Vocabulary
from cascade.index.faiss_index import FaissIndex
from cascade.models.dlrm_scorer import packed_bytes
from cascade.online import keys
from cascade.online.activity import RecentItem
from cascade.online.feast_config import ACTIVITY_VIEW, PROFILE_VIEW
from cascade.online.feast_rows import ViewRows, write_rows
from cascade.online.server import RedisServer, free_port
from cascade.store.artifacts import GatewayArtifacts, RetrievalArtifacts
from cascade.training.item_to_item import NEIGHBOURS

SEED = 7
USERS, ITEMS = 200_000, 50_000
"""enough that what a dictionary or an allocator keeps in reserve weighs as in a large shop"""
REDIS_USERS = 20_000


def run(report: Report) -> None:
    """See the module."""
    _processes(report)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis", free_port()) as server:
        _redis(report, server)
    report.say(
        f"{USERS:,} users, {ITEMS:,} items; {REDIS_USERS:,} users in Redis. Ids are of {len(_user(0))} and "
        f"{len(_item(0))} characters: a UUID has 36, and takes 22 bytes more wherever it is held. A process needs "
        "twice its share of bundle while a new one loads beside the old."
    )


def _user(number: int) -> str:
    return f"user-{number:09d}"


def _item(number: int) -> str:
    return f"item-{number:09d}"


def held(build: Callable[[], Any]) -> int:
    """Bytes that what `build` returns keeps, beside what was there before."""
    gc.collect()
    tracemalloc.start()
    arrow = pa.total_allocated_bytes()
    try:
        kept = build()
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - arrow
    finally:
        tracemalloc.stop()
    del kept
    return used


def _processes(report: Report) -> None:
    ids = pa.array([_user(number) for number in range(USERS)])

    def vocabulary() -> Vocabulary:
        known = Vocabulary.build(ids)
        known.row(_user(0))  # a request's look-up makes the dictionary
        return known

    report.figure(
        "vocabulary.per_user", held(vocabulary) / USERS, "bytes", note="a known user's id, and its row; embedding apart"
    )
    content = synthetic.shop(ITEMS, SEED)
    config = synthetic.ranker(content, SEED, device="cpu").dlrm.config
    report.figure(
        "embedding.per_user", 4 * config.dim, "bytes", note="a row of the ranker's, or the query tower's, table"
    )

    def table() -> Any:
        made = synthetic.shop(ITEMS, SEED).items
        made.positions([_item(0)])
        return made

    report.figure("item_table.per_item", held(table) / ITEMS, "bytes", note="ranker: features, ids and their positions")
    report.figure("packed.per_item", packed_bytes(config, ITEMS) / ITEMS, "bytes", note="ranker: what is precomputed")
    report.figure(
        "item_to_item.per_item", 8 * NEIGHBOURS, "bytes", note="ranker: strongest neighbours, of large catalogs"
    )
    retrieval = synthetic.retrieval(content, SEED)

    def ids_of_index() -> Any:
        fresh = [str(item) for item in pa.array(retrieval.item_ids).to_pylist()]
        made = RetrievalArtifacts(retrieval.user_transform, retrieval.query_tower, retrieval.index, fresh, "cpu")
        _ = made.positions, made.id_array
        return made

    report.figure("retrieval_ids.per_item", held(ids_of_index) / ITEMS, "bytes", note="ids and positions, index apart")
    flat = FaissIndex.flat(np.zeros((1000, config.dim), np.float32), 1)
    report.figure("flat.per_item", 4.0 * flat.dim, "bytes", note="a vector, whole")
    catalog = Shop.create(SIZES["small"]).catalog.table
    rows = catalog.to_pylist()
    many = pa.Table.from_pylist(
        [{**rows[number % len(rows)], "item_id": _item(number)} for number in range(ITEMS)], schema=catalog.schema
    )
    nothing = Popularity((), {}, {})
    gateway = held(lambda: GatewayArtifacts.from_catalog(many, nothing))
    report.figure("catalog.per_item", gateway / ITEMS, "bytes", note="gateway: what the built-in shop shows of an item")


def _redis(report: Report, server: RedisServer) -> None:
    rng, users = random.Random(SEED), [_user(number) for number in range(REDIS_USERS)]  # noqa: S311
    moment = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1e6)
    with redis.Redis.from_url(server.url) as client:

        def used() -> int:
            return int(client.info("memory")["used_memory"])  # type: ignore[index]

        def measured(write: Callable[[], object]) -> float:
            client.flushall()
            before = used()
            write()
            time.sleep(0.2)  # clients' buffers shrink
            return (used() - before) / REDIS_USERS

        def features() -> None:
            ages = [float(rng.randint(18, 80)) for _ in users]
            genders = [rng.choice("FM") for _ in users]
            write_rows(client, ViewRows(PROFILE_VIEW, users, [moment] * len(users), {"age": ages, "gender": genders}))
            categories = [f"category-{rng.randrange(12)}" for _ in users]
            write_rows(client, ViewRows(ACTIVITY_VIEW, users, [moment] * len(users), {"top_category": categories}))

        def recent() -> None:
            now = int(time.time())
            with client.pipeline(transaction=False) as step:
                for user in users:
                    met = (
                        RecentItem(now - age, "click", _item(rng.randrange(ITEMS))).encode()
                        for age in range(keys.RECENT_MAX)
                    )
                    step.rpush(keys.recent(user), *met)
                step.execute()

        report.figure("redis.features.per_user", measured(features), "bytes", note="Feast's hash: profile and activity")
        report.figure("redis.recent.per_user", measured(recent), "bytes", note=f"{keys.RECENT_MAX} recent items")
        client.flushall()
    report.say(
        "Filters of seen items are on the page of `filter`: 712 bytes for a user with one item, 4,088 at most. "
        "Whoever was never met takes nothing."
    )
