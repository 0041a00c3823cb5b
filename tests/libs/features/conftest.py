"""A small shop written to disk by each test that wants one, and small fitted transforms."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.data.contract import Dataset
from cascade.features.item_table import ItemTable
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform

FIRST_DAY = dt.date(2026, 1, 5)

Event = tuple[str, str, int] | tuple[str, str, int, str]
WriteShop = Callable[..., Dataset]


@pytest.fixture
def first_day() -> dt.date:
    """A Monday."""
    return FIRST_DAY


@pytest.fixture
def users() -> pa.Table:
    return pa.table(
        {
            "user_id": ["u1", "u2", "u3", "u4"],
            "age": pa.array([20, 40, 60, None], pa.int32()),
            "gender": ["F", "M", "F", None],
        }
    )


@pytest.fixture
def items() -> pa.Table:
    return pa.table(
        {
            "item_id": ["i1", "i2", "i3", "i4"],
            "title": ["red shoe", "blue shoe", "green hat", "no one saw this"],
            "description": ["", "", "", ""],
            "category_l1": ["shoes", "shoes", "hats", "bags"],
            "category_l2": ["boots", "sandals", "caps", "totes"],
            "price": pa.array([10.0, 20.0, None, 40.0], pa.float32()),
            "gender": ["F", "M", None, "F"],
            "image": pa.array([None] * 4, pa.string()),
        }
    )


@pytest.fixture
def user_transform(users: pa.Table, items: pa.Table) -> UserTransform:
    return UserTransform.fit(users, items.column("category_l1").to_pylist())


@pytest.fixture
def item_transform(items: pa.Table) -> ItemTransform:
    return ItemTransform.fit(items, ["i1", "i2", "i3"])


@pytest.fixture
def context_transform() -> ContextTransform:
    return ContextTransform.fit(pa.table({"device_type": ["mobile", None, "desktop", "mobile"]}))


@pytest.fixture
def item_table(items: pa.Table, item_transform: ItemTransform) -> ItemTable:
    random = np.random.default_rng(7)
    image, text = random.standard_normal((2, len(items), 64)).astype(np.float32)
    return ItemTable.build(items, item_transform, image, text)


@pytest.fixture
def write_shop(tmp_path_factory: pytest.TempPathFactory, users: pa.Table, items: pa.Table) -> WriteShop:
    """write_shop([(user, item, timestamp[, event type]), ...], **replaced tables) -> Dataset; each in its UTC day."""

    def write(
        events: Sequence[Event], *, users: pa.Table = users, items: pa.Table = items, device: str | None = "mobile"
    ) -> Dataset:
        root = tmp_path_factory.mktemp("shop")
        pq.write_table(users, root / "users.parquet")
        pq.write_table(items, root / "items.parquet")
        by_day: dict[dt.date, list[Event]] = {}
        for event in events:
            by_day.setdefault(dt.datetime.fromtimestamp(event[2], dt.UTC).date(), []).append(event)
        for day, rows in by_day.items():
            # Two files a day and no order in them, as live traffic leaves them.
            for part, some in enumerate((rows[::2], rows[1::2])):
                write_day(root / "interactions" / f"date={day}" / f"part-{part}.parquet", some, device)
        return Dataset(root)

    return write


def write_day(path: Path, rows: Sequence[Event], device: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "user_id": pa.array([row[0] for row in rows], pa.string()),
        "item_id": pa.array([row[1] for row in rows], pa.string()),
        "timestamp": pa.array([row[2] for row in rows], pa.int64()),
        "device_type": pa.array([device] * len(rows), pa.string()),
        "event_type": pa.array([row[3] if len(row) > 3 else "view" for row in rows], pa.string()),
    }
    pq.write_table(pa.table(table), path)
