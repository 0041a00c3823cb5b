"""What a row may know: known answers on a handful of events."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.data.contract import Dataset
from cascade.features.item_table import ItemTable
from cascade.features.top_category import EVENT_WEIGHTS
from cascade.training.errors import EvaluationError
from cascade.training.questions import ask

MONDAY = int(dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp())
DAY = 86_400
EVENTS = [
    ("u", "shoe", MONDAY, "view"),
    ("v", "hat", MONDAY + 5, "view"),
    ("u", "gone", MONDAY + 10, "view"),
    ("u", "hat", MONDAY + 20, "not_interested"),
    ("u", "boot", MONDAY + DAY + 30, "click"),
    ("u", "hat", MONDAY + DAY + 30, "view"),
    ("u", "shoe", MONDAY + DAY + 40, "view"),
    ("new", "cap", MONDAY + DAY + 50, "view"),
]


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Dataset, ItemTable]:
    names = ("user_id", "item_id", "timestamp", "event_type")
    for day in (0, 1):
        rows = [event for event in EVENTS if (event[2] - MONDAY) // DAY == day]
        folder = tmp_path / "interactions" / f"date={dt.date(2026, 1, 5 + day)}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), folder / "part-0.parquet")
    ids = ["boot", "cap", "hat", "shoe"]
    kinds = ["feet", "head", "head", "feet"]
    pq.write_table(pa.table({"item_id": [*ids, "gone"], "category_l1": [*kinds, "other"]}), tmp_path / "items.parquet")
    nothing = np.zeros((4, 64), np.float32)
    return Dataset(tmp_path), ItemTable(ids, np.zeros((4, 4), np.int32), nothing[:, :1], nothing, nothing)


def asked(shop: tuple[Dataset, ItemTable], **options):
    settings = {"max_rows": 100, "seed": 0, "weights": EVENT_WEIGHTS, **options}
    return ask(shop[0], shop[0].days()[1:], shop[1], **settings)


def test_a_row_knows_what_came_strictly_before_it(shop: tuple[Dataset, ItemTable]) -> None:
    questions, dropped = asked(shop)
    assert dropped == 0
    assert questions.table.column("item_id").to_pylist() == ["boot", "hat", "shoe", "cap"]
    before = ["shoe", "gone", "hat"]
    assert questions.history.ids()[:2] == [before, before]  # of the same second, neither knows the other
    assert sorted(questions.history.ids()[2]) == sorted([*before, "boot", "hat"])
    assert questions.history.ids()[3] == []
    assert questions.history.counts.tolist() == [3, 3, 5, 0]


def test_what_is_refused_or_unknown_is_seen_and_not_liked(shop: tuple[Dataset, ItemTable]) -> None:
    questions, _ = asked(shop)
    liked = questions.history.matrix(4).toarray()
    assert liked[0].tolist() == [0, 0, 0, 1]  # the hat was refused, what is gone has no place
    assert liked[2].tolist() == [1, 0, 1, 1]
    assert sorted(questions.history.seen(0).tolist()) == [2, 3]
    assert questions.fresh().tolist() == [True, False, False, True]


def test_new_users_are_known_by_their_last_events_alone(shop: tuple[Dataset, ItemTable]) -> None:
    questions, _ = asked(shop)
    catalog = shop[0].items()
    one = questions.as_new_users(1, catalog, EVENT_WEIGHTS)
    assert one.history.ids()[:2] == [["hat"], ["hat"]]
    assert set(one.table.column("user_id").to_pylist()) == {None}
    # Refused as the last event, so its category is nobody's top one.
    assert one.table.column("top_category").to_pylist()[0] is None
    assert questions.as_new_users(10, catalog, EVENT_WEIGHTS).table.column("top_category").to_pylist()[2] == "feet"
    none = questions.as_new_users(0, catalog, EVENT_WEIGHTS)
    assert none.history.counts.tolist() == [0, 0, 0, 0]
    assert none.item.tolist() == questions.item.tolist()


def test_a_sample_keeps_rows_and_histories_together(shop: tuple[Dataset, ItemTable]) -> None:
    whole, _ = asked(shop)
    some, _ = asked(shop, max_rows=2)
    assert len(some) == 2
    place = {item: row for row, item in enumerate(whole.table.column("item_id").to_pylist())}
    for row, item in enumerate(some.table.column("item_id").to_pylist()):
        assert some.history.ids()[row] == whole.history.ids()[place[item]]


def test_days_of_unknown_items_are_refused(shop: tuple[Dataset, ItemTable]) -> None:
    table = shop[1]
    other = ItemTable(["x", "y", "z", "w"], table.categorical, table.continuous, table.image, table.text)
    with pytest.raises(EvaluationError, match="none with an item of the ranker's table"):
        ask(shop[0], shop[0].days()[1:], other, max_rows=9, seed=0, weights=EVENT_WEIGHTS)
