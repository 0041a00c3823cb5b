"""Held against the rows that `training_rows` writes for the same users at the same moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.data.contract import Dataset
from cascade.features.errors import FeatureInputError
from cascade.features.point_in_time import training_rows
from cascade.features.shown_rows import SHOWN_SCHEMA, shown_rows
from cascade.features.source import QueryLimits

MONDAY = 1_767_571_200
DAY = 86_400
LIMITS = QueryLimits(memory="500MB", threads=1)
Event = tuple[str, str, int, str]

events = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "stranger"]),
        st.sampled_from(["i1", "i2", "i3", "i4"]),
        st.integers(0, 3 * DAY - 1).map(lambda offset: MONDAY + offset),
        st.sampled_from(["view", "purchase", "not_interested"]),
    ),
    min_size=1,
    max_size=30,
)


def impressions(rows: Sequence[tuple[str, str, int]]) -> pa.Table:
    user, item, timestamp = zip(*rows, strict=True) if rows else ((), (), ())
    count = len(rows)
    return pa.table(
        {
            "request_id": pa.array([f"r{n}" for n in range(count)], pa.string()),
            "user_id": pa.array(user, pa.string()),
            "timestamp": pa.array(timestamp, pa.int64()),
            "device_type": pa.array(["mobile"] * count, pa.string()),
            "item_id": pa.array(item, pa.string()),
            "position": pa.array(range(count), pa.int32()),
            "propensity": pa.array([1 / (1 + n) for n in range(count)], pa.float64()),
            "clicked": pa.array([n % 2 == 0 for n in range(count)], pa.bool_()),
        }
    )


@given(history=events)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_shown_has_the_features_that_an_interaction_would_have(
    write_shop: Callable[..., Dataset], tmp_path: Path, history: list[Event]
) -> None:
    dataset = write_shop(history)
    training_rows(dataset, dataset.days(), tmp_path / "rows.parquet", limits=LIMITS)
    expected = pq.read_table(tmp_path / "rows.parquet").drop_columns(["event_type"]).to_pylist()
    shown = impressions([(user, item, at) for user, item, at, kind in history if kind != "not_interested"])
    assert shown_rows(dataset, shown, tmp_path / "shown.parquet", limits=LIMITS) == len(expected)
    found = pq.read_table(tmp_path / "shown.parquet")
    assert found.schema.equals(SHOWN_SCHEMA)
    features = found.drop_columns(["position", "propensity", "clicked"]).to_pylist()
    order = ("timestamp", "user_id", "item_id")
    assert sorted(features, key=lambda row: [row[one] for one in order]) == expected
    told = {(row["position"], row["propensity"], row["clicked"]) for row in found.to_pylist()}
    assert told == {(n, 1 / (1 + n), n % 2 == 0) for n in range(len(shown))}


def test_a_visitor_without_any_event_and_a_day_without_interactions(
    write_shop: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = write_shop([("u1", "i1", MONDAY + DAY - 5, "view")])
    shown = impressions(
        [("u1", "i3", MONDAY + DAY + 5), ("new", "i3", MONDAY + DAY + 6), ("u1", "i3", MONDAY + 9 * DAY)]
    )
    shown_rows(dataset, shown, tmp_path / "shown.parquet", limits=LIMITS)
    found = pq.read_table(tmp_path / "shown.parquet").to_pylist()
    assert [row["top_category"] for row in found] == ["shoes", None, None]
    assert [row["feature_timestamp"] for row in found] == [MONDAY + DAY - 5, None, None]
    assert found[1]["age"] is None


def test_nothing_shown_is_an_empty_file_and_a_missing_column_is_named(
    write_shop: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = write_shop([("u1", "i1", MONDAY, "view")])
    assert shown_rows(dataset, impressions([]), tmp_path / "shown.parquet", limits=LIMITS) == 0
    assert pq.read_table(tmp_path / "shown.parquet").schema.equals(SHOWN_SCHEMA)
    with pytest.raises(FeatureInputError, match="clicked"):
        shown_rows(dataset, impressions([]).drop_columns(["clicked"]), tmp_path / "no.parquet", limits=LIMITS)
