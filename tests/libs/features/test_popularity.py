from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cascade.data.contract import Dataset
from cascade.features.errors import FeatureFileCorruptedError, FeatureFileMissingError, FeatureInputError
from cascade.features.popularity import Popularity, count_popularity
from cascade.features.source import QueryLimits

MONDAY = int(dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp())
LIMITS = QueryLimits(memory="500MB", threads=1)
COUNTS = Counter({"i1": 3, "i2": 3, "i3": 5, "i4": 1, "gone": 9})

WriteShop = Callable[..., Dataset]


@pytest.fixture
def dataset(write_shop: WriteShop) -> Dataset:
    events = [("u1", item, MONDAY + at) for at, item in enumerate(COUNTS.elements())]
    return write_shop([*events, ("u1", "i4", MONDAY + 86_400)])


def test_a_no_is_no_popularity(write_shop: WriteShop) -> None:
    dataset = write_shop([("u1", "i1", MONDAY, "click"), *[("u1", "i3", MONDAY, "not_interested")] * 5])
    assert count_popularity(dataset, dataset.days(), limits=LIMITS).global_ == (("i1", 1.0),)


def test_items_of_the_catalog_by_count_then_id(dataset: Dataset) -> None:
    popularity = count_popularity(dataset, dataset.days()[:1], limits=LIMITS)
    assert popularity.global_ == (("i3", 5.0), ("i1", 3.0), ("i2", 3.0), ("i4", 1.0))
    assert popularity.by_l1 == {
        "shoes": (("i1", 3.0), ("i2", 3.0)),
        "hats": (("i3", 5.0),),
        "bags": (("i4", 1.0),),
    }
    assert popularity.by_l2["sandals"] == (("i2", 3.0),)


def test_only_the_given_days_and_the_best(dataset: Dataset) -> None:
    popularity = count_popularity(dataset, dataset.days()[1:], limits=LIMITS)
    assert popularity.global_ == (("i4", 1.0),)
    best = count_popularity(dataset, dataset.days(), top_n=1, limits=LIMITS)
    assert best.global_ == (("i3", 5.0),)
    assert best.by_l1["shoes"] == (("i1", 3.0),)


def test_an_item_without_category_is_ranked_over_all_alone(write_shop: WriteShop, items: pa.Table) -> None:
    blank = items.set_column(4, "category_l2", pa.array(["", None, "caps", "totes"]))
    dataset = write_shop([("u1", "i1", MONDAY), ("u1", "i2", MONDAY)], items=blank)
    popularity = count_popularity(dataset, dataset.days(), limits=LIMITS)
    assert len(popularity.global_) == 2
    assert popularity.by_l2 == {}


def test_no_interaction_with_the_catalog(write_shop: WriteShop) -> None:
    dataset = write_shop([("u1", "gone", MONDAY)])
    assert count_popularity(dataset, dataset.days(), limits=LIMITS) == Popularity((), {}, {})


def test_save_load(dataset: Dataset, tmp_path: Path) -> None:
    popularity = count_popularity(dataset, dataset.days(), limits=LIMITS)
    popularity.save(tmp_path / "popularity.json")
    assert Popularity.load(tmp_path / "popularity.json") == popularity


def test_load_refuses_what_is_no_popularity(tmp_path: Path) -> None:
    path = tmp_path / "popularity.json"
    with pytest.raises(FeatureFileMissingError):
        Popularity.load(path)
    path.write_text(json.dumps({"kind": "popularity", "format": 1, "global": [["i1"]], "by_l1": {}, "by_l2": {}}))
    with pytest.raises(FeatureFileCorruptedError, match="holds no rankings"):
        Popularity.load(path)
    path.write_text("[]")
    with pytest.raises(FeatureFileCorruptedError, match="holds a list"):
        Popularity.load(path)


def test_top_n_is_at_least_one(dataset: Dataset) -> None:
    with pytest.raises(FeatureInputError, match="top_n is 0"):
        count_popularity(dataset, dataset.days(), top_n=0)
