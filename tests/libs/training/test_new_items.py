"""A new item is placed by its content, found and ranked, without a step of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cascade.features.item import ItemTransform
from cascade.features.item_table import ItemTable
from cascade.features.popularity import Popularity
from cascade.index.build import build_index
from cascade.store.artifacts import RetrievalArtifacts
from cascade.training.loop import LoopConfig
from cascade.training.new_items import catalog_change, items_without_id, popularity_within, updated_table
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower


def catalog(ids: list[str], price: float = 10.0) -> pa.Table:
    return pa.table(
        {
            "item_id": ids,
            "category_l1": [f"c{item[1]}" for item in ids],
            "category_l2": [f"d{item[1]}" for item in ids],
            "price": pa.array([price] * len(ids), pa.float32()),
            "gender": ["F"] * len(ids),
        }
    )


@pytest.fixture
def transform() -> ItemTransform:
    return ItemTransform.fit(catalog(["i0", "i1", "i2"]), ["i0", "i1", "i2"])


@pytest.fixture
def table(transform: ItemTransform) -> ItemTable:
    content = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
    return ItemTable.build(catalog(["i0", "i1", "i2"]), transform, content, -content)


def ones(fresh: pa.Table) -> np.ndarray:
    return np.ones((len(fresh), 64), np.float32)


def test_what_joined_and_what_left(table: ItemTable) -> None:
    change = catalog_change(catalog(["i9", "i2", "i0", "i8"]), table)

    assert (change.added, change.removed) == (["i9", "i8"], ["i1"])
    assert not catalog_change(catalog(["i2", "i1", "i0"]), table)


def test_only_new_items_are_encoded_and_the_others_keep_their_vectors(
    table: ItemTable, transform: ItemTransform
) -> None:
    asked: list[list[str]] = []

    def embed(fresh: pa.Table) -> np.ndarray:
        asked.append(fresh.column("item_id").to_pylist())
        return ones(fresh)

    updated = updated_table(catalog(["i9", "i2", "i0"], price=20.0), table, transform, embed, embed)

    assert updated.item_ids == ["i0", "i2", "i9"]
    assert asked == [["i9"], ["i9"]]
    assert (updated.image[:2] == table.image[[0, 2]]).all()
    assert (updated.image[2] == 1).all()
    assert items_without_id(updated) == ["i9"]
    # the price is read anew
    assert (updated.continuous != table.continuous[0]).all()
    assert updated.categorical[0].tolist() == table.categorical[0].tolist()


def test_nothing_new_asks_no_encoder(table: ItemTable, transform: ItemTransform) -> None:
    def refuse(fresh: pa.Table) -> np.ndarray:
        raise AssertionError("there is nothing to encode")

    assert updated_table(catalog(["i1"]), table, transform, refuse, refuse).item_ids == ["i1"]


def test_popularity_forgets_items_that_left(table: ItemTable) -> None:
    popularity = Popularity((("gone", 5.0), ("i1", 3.0)), {"c": (("gone", 5.0),)}, {})

    assert popularity_within(popularity, table) == Popularity((("i1", 3.0),), {"c": ()}, {})


def test_a_new_item_with_known_content_is_retrieved_by_those_who_want_its_kind(make_world: Callable[..., Any]) -> None:
    world = make_world(rows=3000)
    training = TwoTowerTraining(
        loop=LoopConfig(epochs=6, batch=256, learning_rate=1e-2), item_id_dropout=0.3, user_dropout=0.0
    )
    model, _ = train_two_tower(world.train, None, world.items, world.two_tower, training, seed=1)
    block = 2
    like = int(np.flatnonzero(world.block_of_item == block)[0])
    grown = ItemTable(
        [*world.items.item_ids, "new"],
        np.concatenate([world.items.categorical, [[0, *world.items.categorical[like, 1:]]]]).astype(np.int32),
        np.concatenate([world.items.continuous, world.items.continuous[[like]]]),
        np.concatenate([world.items.image, world.items.image[[like]]]),
        np.concatenate([world.items.text, world.items.text[[like]]]),
    )
    vectors = model.candidate.predict(grown.categorical, grown.continuous, grown.image, grown.text)
    index, _ = build_index(vectors, source=model.candidate.fingerprint())
    retrieval = RetrievalArtifacts(None, model.query, index, grown.item_ids)  # type: ignore[arg-type]

    rows = world.validation
    queries = model.query.predict(rows.user.categorical, rows.user.continuous)
    _, found = retrieval.index.search(queries, len(grown))
    rank = (found == len(grown) - 1).argmax(axis=1)  # of the new item in each row's list

    wanted = world.block_of_row == block
    # the first eleven of 41 are the block's own items and the new one
    assert np.median(rank[wanted]) <= 11
    assert np.median(rank[wanted]) < np.median(rank[~wanted]) / 1.5
