from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pyarrow.parquet as pq

from cascade.data.contract import Dataset
from cascade.features.point_in_time import online_top_categories, training_rows
from cascade.features.popularity import count_popularity
from cascade.features.seen import seen_in
from cascade.features.source import QueryLimits

MONDAY = int(dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp())


def test_what_the_given_days_hold(write_shop: Callable[..., Dataset]) -> None:
    dataset = write_shop(
        [
            ("u2", "i3", MONDAY),
            ("u1", "i1", MONDAY + 1),
            ("stranger", "gone", MONDAY + 2),
            ("u1", "i1", MONDAY + 3),
            ("u4", "i4", MONDAY + 4, "not_interested"),
            ("u3", "i2", MONDAY + 86_400),
        ]
    )
    seen = seen_in(dataset, dataset.days()[:1], limits=QueryLimits(memory="500MB", threads=1))
    assert seen.users.column("user_id").to_pylist() == ["u1", "u2"]
    assert seen.users.column("age").to_pylist() == [20, 40]
    assert seen.item_ids.to_pylist() == ["gone", "i1", "i3"]
    assert seen.devices.to_pylist() == [{"device_type": "mobile"}]


def test_columns_left_out_are_unknown_devices_and_views(write_shop: Callable[..., Dataset]) -> None:
    dataset = write_shop([("u1", "i1", MONDAY), ("u2", "i2", MONDAY + 86_400)])
    for path in dataset.interaction_files():
        pq.write_table(pq.ParquetFile(path).read(columns=["user_id", "item_id", "timestamp"]), path)
    seen = seen_in(dataset, dataset.days())
    assert seen.item_ids.to_pylist() == ["i1", "i2"]
    assert seen.devices.num_rows == 0
    assert count_popularity(dataset, dataset.days()).global_ == (("i1", 1.0), ("i2", 1.0))
    rows = dataset.root / "rows.parquet"
    training_rows(dataset, dataset.days(), rows)
    assert pq.read_table(rows).column("event_type").to_pylist() == ["view", "view"]
    assert pq.read_table(rows).column("device_type").to_pylist() == [None, None]
    assert online_top_categories(dataset, MONDAY + 2 * 86_400).num_rows == 1
