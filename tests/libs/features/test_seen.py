from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from cascade.data.contract import Dataset
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
