from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cascade.features.history import histories_of_rows
from cascade.features.recent import recent_interactions
from cascade.features.source import QueryLimits
from cascade.features.spec import DEFAULT_EVENT_TYPE, EVENT_TYPE_ROWS

DAY = 86_400
MONDAY = int(dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp())
LIMITS = QueryLimits(memory="500MB", threads=1)


def test_lists_are_the_histories_of_that_moment(write_shop: Callable[..., Any]) -> None:
    """What serving starts from is what training would see: newest first, ties in the same order, nothing later."""
    random = np.random.default_rng(2)
    log = [
        (
            f"u{random.integers(3)}",
            f"i{random.integers(1, 5)}",
            MONDAY + int(random.integers(0, 40)) * DAY // 12,
            "view",
        )
        for _ in range(120)
    ]
    source, at = write_shop(log), MONDAY + 2 * DAY
    [found] = recent_interactions(source, at, days=3, length=9, limits=LIMITS)
    users = found.column("user_id").to_pylist()
    assert users == ["u0", "u1", "u2"]
    rows = pa.table({"user_id": users, "timestamp": pa.array([at] * 3, pa.int64())})
    histories = histories_of_rows(rows, source, ["i1", "i2", "i3", "i4"])
    items, _, ages = histories.padded(np.array([at] * 3), length=9)
    for n, entries in enumerate(found.column("entries").to_pylist()):
        assert entries == [f"{at - age}|view|i{item + 1}" for age, item in zip(ages[n], items[n], strict=True)]


def test_days_further_back_and_the_moment_itself_are_left_out(write_shop: Callable[..., Any]) -> None:
    log = [("u1", "i1", MONDAY - 1 + day * DAY, "view") for day in (1, 2, 3)] + [("u2", "i2", MONDAY + 3 * DAY, "view")]
    [found] = recent_interactions(write_shop(log), MONDAY + 3 * DAY, days=2, limits=LIMITS)
    assert found.to_pylist() == [{"user_id": "u1", "entries": [f"{MONDAY - 1 + day * DAY}|view|i1" for day in (3, 2)]}]
    assert not list(recent_interactions(write_shop(log), MONDAY + 3 * DAY, days=0, limits=LIMITS))


def test_parts_hold_all_users_once(write_shop: Callable[..., Any]) -> None:
    log = [(f"u{n % 40}", f"i{1 + n % 4}", MONDAY + n, "view") for n in range(200)]
    source = write_shop(log)
    [whole] = recent_interactions(source, MONDAY + DAY, days=1, limits=LIMITS)
    parts = list(recent_interactions(source, MONDAY + DAY, days=1, limits=LIMITS, events_at_once=30))
    assert len(parts) > 3
    assert pa.concat_tables(parts).sort_by("user_id") == whole


def test_a_shop_without_event_types_has_events_of_the_default_one(write_shop: Callable[..., Any]) -> None:
    source = write_shop([("u1", "i1", MONDAY, "purchase"), ("u1", "i2", MONDAY + 9, "view")])
    for path in source.interaction_files():
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["event_type"]), path)
    [found] = recent_interactions(source, MONDAY + DAY, days=1, limits=LIMITS)
    kind = DEFAULT_EVENT_TYPE
    assert found.to_pylist() == [{"user_id": "u1", "entries": [f"{MONDAY + 9}|{kind}|i2", f"{MONDAY}|{kind}|i1"]}]
    rows = pa.table({"user_id": ["u1"], "timestamp": pa.array([MONDAY + DAY], pa.int64())})
    histories = histories_of_rows(rows, source, ["i1", "i2"])
    assert set(histories.event_type.tolist()) == {EVENT_TYPE_ROWS.get(kind, 0)}
