from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cascade.features.item_table import ItemTable
from cascade.features.spec import Encoded
from cascade.features.transforms import UserTransform
from cascade.training.rows import data_summary, drop_users, kinds_of, sample_rows, unknown_user


def some_users(count: int = 2000) -> Encoded:
    rng = np.random.default_rng(0)
    return Encoded(rng.integers(1, 5, (count, 4)).astype(np.int32), rng.normal(size=(count, 1)).astype(np.float32))


def test_the_unknown_user_is_the_one_that_serving_encodes() -> None:
    ages = [20, 30, 41, 60]
    table = pa.table({"user_id": list("abcd"), "age": ages, "gender": ["F", "M", "F", "M"], "top_category": ["x"] * 4})
    transform = UserTransform.fit(table, ["x"])
    served = transform.encode([None], [None], [None], [None])
    found = unknown_user(transform.transform(table))
    np.testing.assert_array_equal(found.categorical, served.categorical)
    np.testing.assert_allclose(found.continuous, served.continuous, atol=1e-6)


def test_dropped_users_lose_their_id_or_everything() -> None:
    users = some_users()
    unknown = Encoded(np.array([[0, 0, 3, 0]], np.int32), np.zeros((1, 1), np.float32))
    dropped = drop_users(users, 0.3, 0.2, unknown, np.random.default_rng(1))
    everything = (dropped.categorical == unknown.categorical).all(axis=1) & (dropped.continuous[:, 0] == 0)
    only_id = (dropped.categorical[:, 0] == 0) & ~everything
    kept = ~everything & ~only_id
    assert everything.mean() == pytest.approx(0.2, abs=0.03)
    assert only_id.mean() == pytest.approx(0.8 * 0.3, abs=0.03)
    np.testing.assert_array_equal(dropped.categorical[only_id, 1:], users.categorical[only_id, 1:])
    np.testing.assert_array_equal(dropped.categorical[kept], users.categorical[kept])
    np.testing.assert_array_equal(dropped.continuous[~everything], users.continuous[~everything])
    assert (users.categorical > 0).all()


def test_samples_are_seeded_and_in_order(make_world) -> None:
    rows = make_world(rows=100).train
    assert sample_rows(rows, 200, 0).tolist() == list(range(100))
    sample = sample_rows(rows, 30, 0)
    assert sample.tolist() == sorted(set(sample.tolist()))
    assert len(sample) == 30
    assert sample.tolist() == sample_rows(rows, 30, 0).tolist() != sample_rows(rows, 30, 1).tolist()


def test_the_summary_follows_the_data(make_world) -> None:
    world, other = make_world(rows=100), make_world(rows=100, seed=1)
    assert data_summary(world.train, world.items) == data_summary(make_world(rows=100).train, world.items)
    assert data_summary(world.train, world.items) != data_summary(other.train, other.items)


def catalog(l1: np.ndarray, l2: np.ndarray) -> ItemTable:
    count = len(l1)
    categorical = np.stack([np.arange(1, count + 1), l1, l2, np.ones(count)], axis=1).astype(np.int32)
    nothing = np.zeros((count, 64), np.float32)
    return ItemTable(
        [f"item-{n}" for n in range(count)], categorical, np.zeros((count, 1), np.float32), nothing, nothing
    )


def test_kinds_are_the_finest_category_that_is_coarse_enough() -> None:
    place = np.arange(60)
    items, evenly = catalog(1 + place % 3, 1 + place % 12), np.full(60, 1 / 60)
    for most, column in ((12.001, 2), (11.9, 1), (3.001, 1)):
        found = kinds_of(items, evenly, most)
        assert found is not None
        np.testing.assert_array_equal(found, items.categorical[:, column])
    assert kinds_of(items, evenly, 2.9) is None
    # Eleven of the twelve are hardly met: they count for less than one.
    mostly = np.where(place % 12 == 0, 0.9 / 5, 0.1 / 55)
    found = kinds_of(items, mostly, 1.3)
    assert found is not None
    np.testing.assert_array_equal(found, items.categorical[:, 2])
    nothing = np.zeros(60, int)
    assert kinds_of(catalog(nothing, nothing), evenly, 100) is None
