"""Held against a reference that walks every event for every row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.features.errors import FeatureInputError
from cascade.features.history import Histories, histories_of_rows
from cascade.features.spec import EVENT_TYPE_ROWS

DAY = 86_400
MONDAY = int(dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp())
ITEMS = ["i1", "i2", "i3", "i4"]

events = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "stranger"]),
        st.sampled_from([*ITEMS, "gone"]),
        # Few moments, so that events of the same second are common.
        st.integers(0, 12).map(lambda n: MONDAY + n // 5 * DAY + n % 5),
        st.sampled_from(["view", "purchase", "not_interested", "wishlist"]),
    ),
    min_size=1,
    max_size=30,
)


def encoded(event: tuple[str, str, int, str]) -> tuple[int, int, int]:
    _, item, timestamp, kind = event
    return timestamp, ITEMS.index(item) if item in ITEMS else -1, EVENT_TYPE_ROWS.get(kind, 0)


def table(rows: list[tuple[str, int]]) -> pa.Table:
    return pa.table({"user_id": [user for user, _ in rows], "timestamp": pa.array([at for _, at in rows], pa.int64())})


@given(log=events, asked=st.lists(st.tuples(st.sampled_from(["u1", "u2", "nobody"]), st.integers(0, 3 * DAY))))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_history_is_what_came_strictly_before_and_nothing_else(
    write_shop: Callable[..., Any], log: list[Any], asked: list[tuple[str, int]]
) -> None:
    rows = [(user, MONDAY + at) for user, at in asked] + [(user, at) for user, _, at, _ in log]
    found = histories_of_rows(table(rows), write_shop(log), ITEMS)
    moments = np.array([at for _, at in rows])
    items, types, ages = found.padded(moments, length=3)
    for n, (user, at) in enumerate(rows):
        expected = sorted(encoded(event) for event in log if event[0] == user and event[2] < at)
        part = slice(int(found.history_start[n]), int(found.history_end[n]))
        assert (
            list(zip(found.event_timestamp[part], found.event_item[part], found.event_type[part], strict=True))
            == expected
        )
        latest = [(at - age, item, kind) for age, item, kind in zip(ages[n], items[n], types[n], strict=True)]
        count = min(3, len(expected))
        assert latest[:count] == expected[::-1][:count]
        assert (items[n, count:] == -1).all()
        assert (ages[n, :count] >= 1).all()


@given(log=events, chosen=st.lists(st.integers(0, 29), max_size=12), length=st.integers(1, 4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compact_and_joined_histories_say_the_same(
    write_shop: Callable[..., Any], log: list[Any], chosen: list[int], length: int
) -> None:
    rows = [(user, at) for user, _, at, _ in log]
    whole = histories_of_rows(table(rows), write_shop(log), ITEMS)
    taken = np.array([n for n in chosen if n < len(rows)], np.int64)
    moments = np.array([at for _, at in rows])
    expected = whole.take(taken).padded(moments[taken], length)
    for small in (whole.take(taken).compact(length), Histories.joined([whole.take(taken[:2]), whole.take(taken[2:])])):
        for ours, theirs in zip(small.padded(moments[taken], length), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_moved_items_are_followed_and_lost_ones_say_nothing() -> None:
    none = np.zeros(1, np.int64)
    events = np.array([0, 1, 2, -1], np.int32)
    histories = Histories(events, np.ones(4, np.int8), np.arange(4), none, none + 4)
    assert histories.moved(np.array([5, -1, 0])).event_item.tolist() == [5, -1, 0, -1]


def test_nobody_has_no_history(write_shop: Callable[..., Any]) -> None:
    found = histories_of_rows(table([("nobody", MONDAY)]), write_shop([("u1", "i1", MONDAY, "view")]), ITEMS)
    items, _, _ = found.padded(np.array([MONDAY]))
    assert items.shape == (1, 0)
    assert Histories.empty(2).padded(np.zeros(2, np.int64))[0].shape == (2, 0)


def test_columns_of_other_lengths_are_refused() -> None:
    good = Histories.empty(2)
    with pytest.raises(FeatureInputError, match="give one value each"):
        replace(good, history_end=np.zeros(3, np.int64))
