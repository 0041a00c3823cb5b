"""Held against a reference that walks every event for every row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.data.contract import Dataset
from cascade.features.errors import FeatureInputError
from cascade.features.point_in_time import ROWS_SCHEMA, online_top_categories, training_rows
from cascade.features.source import QueryLimits
from cascade.features.top_category import top_category_of

Event = tuple[str, str, int, str]
WriteShop = Callable[..., Dataset]

DAY = 86_400
LIMITS = QueryLimits(memory="500MB", threads=1)
MONDAY = int(dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp())
CATEGORY = {"i1": "shoes", "i2": "shoes", "i3": "hats", "i4": "bags"}
WEIGHTS = {"view": 1, "click": 1, "add_to_cart": 3, "purchase": 5, "not_interested": -3}

# "gone" is in no catalog, "stranger" in no user table. Moments crowd around a day's edges, to the second, so that
# ties, equal seconds and events exactly 24 hours apart are common.
moments = st.one_of(
    st.integers(0, 3 * DAY - 1),
    st.builds(lambda day, offset: day * DAY + offset, st.integers(0, 2), st.integers(0, 4)),
)
events = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "stranger"]),
        st.sampled_from([*CATEGORY, "gone"]),
        moments.map(lambda offset: MONDAY + offset),
        # "wishlist" has no weight of its own
        st.sampled_from(["view", "click", "add_to_cart", "purchase", "not_interested", "wishlist"]),
    ),
    min_size=1,
    max_size=40,
)


def reference(history: Sequence[Event], user: str, at: int) -> tuple[str | None, int | None]:
    """(top category, newest event used), by the definition, without any cleverness."""
    seen = [
        (CATEGORY[item], timestamp, WEIGHTS.get(kind, 1))
        for who, item, timestamp, kind in history
        if who == user and item in CATEGORY and at - DAY <= timestamp < at
    ]
    if not seen:
        return None, None
    categories = sorted({category for category, _, _ in seen})
    total = {one: sum(weight for category, _, weight in seen if category == one) for one in categories}
    last = {one: max(timestamp for category, timestamp, _ in seen if category == one) for one in categories}
    best = None
    for one in categories:
        if total[one] > 0 and (best is None or (total[one], last[one]) > (total[best], last[best])):
            best = one
    return best, max(timestamp for _, timestamp, _ in seen)


def day_of(timestamp: int) -> dt.date:
    return dt.datetime.fromtimestamp(timestamp, dt.UTC).date()


def read(path: Path) -> list[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        assert file.schema_arrow.equals(ROWS_SCHEMA)
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows


@given(history=events, keep=st.sets(st.integers(0, 2)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_rows_agree_with_the_reference(
    write_shop: WriteShop, tmp_path: Path, users: pa.Table, history: list[Event], keep: set[int]
) -> None:
    dataset = write_shop(history)
    days = [day for at, day in enumerate(dataset.days()) if at in keep] or dataset.days()
    stats = training_rows(dataset, days, tmp_path / "rows.parquet", limits=LIMITS)
    rows = read(tmp_path / "rows.parquet")

    positive = (event for event in history if day_of(event[2]) in days and event[3] != "not_interested")
    expected = sorted(positive, key=lambda e: (e[2], e[0], e[1], e[3]))
    assert [(row["user_id"], row["item_id"], row["timestamp"], row["event_type"]) for row in rows] == expected
    people = {person["user_id"]: person for person in users.to_pylist()}
    for row in rows:
        # Only this day and the one before are in the dataset's reach, which is all that 24 hours can touch.
        top, newest = reference(history, row["user_id"], row["timestamp"])
        assert (row["top_category"], row["feature_timestamp"]) == (top, newest), row
        person = people.get(row["user_id"], {"age": None, "gender": None})
        assert (row["age"], row["gender"]) == (person["age"], person["gender"])
        assert row["device_type"] == "mobile"
    assert stats.rows == len(rows)
    assert stats.rows_without_top_category == sum(row["top_category"] is None for row in rows)
    assert stats.rows_of_unknown_users == sum(row["user_id"] == "stranger" for row in rows)
    assert stats.rows_of_unknown_items == sum(row["item_id"] == "gone" for row in rows)


@given(history=events, at=moments.map(lambda offset: MONDAY + offset))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_online_agrees_with_the_reference(write_shop: WriteShop, history: list[Event], at: int) -> None:
    found = online_top_categories(write_shop(history), at, limits=LIMITS)
    expected = [
        {"user_id": user, "top_category": top, "event_timestamp": dt.datetime.fromtimestamp(newest, dt.UTC)}
        for user in ("stranger", "u1", "u2")
        for top, newest in [reference(history, user, at)]
        if newest is not None and top is not None
    ]
    assert found.to_pylist() == expected
    assert found.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


@given(history=events)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_sees_what_serving_would_have_seen(
    write_shop: WriteShop, tmp_path: Path, history: list[Event]
) -> None:
    dataset = write_shop(history)
    training_rows(dataset, dataset.days(), tmp_path / "rows.parquet", limits=LIMITS)
    for row in read(tmp_path / "rows.parquet"):
        online = online_top_categories(dataset, row["timestamp"], limits=LIMITS).to_pylist()
        served = {entry["user_id"]: entry["top_category"] for entry in online}
        assert served.get(row["user_id"]) == row["top_category"]
        own = [
            (CATEGORY.get(item), timestamp, kind) for user, item, timestamp, kind in history if user == row["user_id"]
        ]
        assert top_category_of(own, row["timestamp"]) == row["top_category"]


def test_the_order_of_the_files_does_not_matter(write_shop: WriteShop, tmp_path: Path) -> None:
    history = [("u1", item, MONDAY + second) for second in range(3) for item in CATEGORY] * 2
    for name, some in (("a", history), ("b", history[::-1])):
        training_rows(write_shop(some), [day_of(MONDAY)], tmp_path / name, limits=LIMITS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_day_before_the_first_is_seen_and_no_other(write_shop: WriteShop, tmp_path: Path) -> None:
    history = [("u1", "i3", MONDAY + DAY - 1), ("u1", "i1", MONDAY + DAY), ("u1", "i1", MONDAY + 3 * DAY)]
    dataset = write_shop(history)
    training_rows(dataset, [day_of(MONDAY + DAY), day_of(MONDAY + 3 * DAY)], tmp_path / "r", limits=LIMITS)
    assert [row["top_category"] for row in read(tmp_path / "r")] == ["hats", None]


def test_items_without_category_say_nothing(write_shop: WriteShop, items: pa.Table, tmp_path: Path) -> None:
    blank = items.set_column(3, "category_l1", pa.array(["shoes", "", "hats", "bags"]))
    dataset = write_shop([("u1", "i2", MONDAY), ("u1", "i1", MONDAY + 5)], items=blank)
    training_rows(dataset, dataset.days(), tmp_path / "r", limits=LIMITS)
    assert [row["top_category"] for row in read(tmp_path / "r")] == [None, None]


def test_progress_counts_days(write_shop: WriteShop, tmp_path: Path) -> None:
    dataset = write_shop([("u1", "i1", MONDAY), ("u1", "i1", MONDAY + DAY)])
    calls: list[tuple[int, int]] = []
    days = [*dataset.days(), *dataset.days()]
    training_rows(dataset, days, tmp_path / "r", limits=LIMITS, progress=lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]


def test_online_without_events_is_empty(write_shop: WriteShop) -> None:
    dataset = write_shop([("u1", "i1", MONDAY)])
    for at in (MONDAY, MONDAY + 10 * DAY):
        assert len(online_top_categories(dataset, at, limits=LIMITS)) == 0


def test_a_day_without_interactions_is_refused(write_shop: WriteShop, tmp_path: Path) -> None:
    dataset = write_shop([("u1", "i1", MONDAY)])
    with pytest.raises(FeatureInputError, match="2026-01-09; it has 2026-01-05 to 2026-01-05"):
        training_rows(dataset, [dt.date(2026, 1, 9)], tmp_path / "r", limits=LIMITS)
    with pytest.raises(FeatureInputError, match="no days were given"):
        training_rows(dataset, [], tmp_path / "r", limits=LIMITS)
    assert not list(tmp_path.iterdir())


def test_a_row_in_another_days_folder_is_refused(write_shop: WriteShop, tmp_path: Path) -> None:
    dataset = write_shop([("u1", "i1", MONDAY)])
    folder = dataset.root / "interactions"
    (folder / "date=2026-01-05").rename(folder / "date=2026-01-06")
    with pytest.raises(FeatureInputError, match=f"interactions of 2026-01-06 hold the timestamp {MONDAY}"):
        training_rows(dataset, dataset.days(), tmp_path / "r", limits=LIMITS)
    assert not list(tmp_path.iterdir()), "nothing half-written stays"


@pytest.mark.parametrize(("table", "key"), [("users", "'u1'"), ("items", "'i1'")])
def test_a_repeated_id_is_refused(
    write_shop: WriteShop, request: pytest.FixtureRequest, tmp_path: Path, table: str, key: str
) -> None:
    rows = request.getfixturevalue(table)
    dataset = write_shop([("u1", "i1", MONDAY)], **{table: pa.concat_tables([rows, rows.slice(0, 1)])})
    with pytest.raises(FeatureInputError, match=f"{key} repeats"):
        training_rows(dataset, dataset.days(), tmp_path / "r", limits=LIMITS)


def test_a_very_busy_user_is_counted_like_any_other(write_shop: WriteShop, tmp_path: Path) -> None:
    # A robot's 20,000 events: expanding each row's window would give 200 million pairs.
    history = [("u1", ("i1", "i3", "i4")[at % 3], MONDAY + at) for at in range(20_000)]
    training_rows(write_shop(history), [day_of(MONDAY)], tmp_path / "r", limits=LIMITS)
    rows = read(tmp_path / "r")
    # After each full round all three tie, and the latest is the one just met.
    assert [row["top_category"] for row in rows[3::3]] == ["bags"] * len(rows[3::3])
    assert [row["top_category"] for row in rows[1::3]] == ["shoes"] * len(rows[1::3])


def test_weights_are_the_callers(write_shop: WriteShop, tmp_path: Path) -> None:
    dataset = write_shop([("u1", "i1", MONDAY, "purchase"), ("u1", "i3", MONDAY + 1), ("u1", "i4", MONDAY + 2)])
    for weights, top in (({}, "hats"), ({"purchase": 2}, "shoes"), ({"purchase": -1, "view": 0}, None)):
        training_rows(dataset, dataset.days(), tmp_path / "r", weights=weights, limits=LIMITS)
        assert read(tmp_path / "r")[-1]["top_category"] == top
        online = online_top_categories(dataset, MONDAY + 2, weights=weights, limits=LIMITS).to_pylist()
        assert [row["top_category"] for row in online] == ([top] if top else [])
