from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.models.errors import ModelFileError, ModelInputError
from cascade.models.item_to_item import ItemToItem

WEIGHTS = np.array([[0, 0, 0, 0], [0, 0, 2, 3], [0, 5, 0, 7], [0, 0, 11, 0]], np.float32)
WHOLE = ItemToItem(WEIGHTS)


def neighbours_of(weights: np.ndarray, count: int) -> ItemToItem:
    """Each row's `count` strongest, as neighbours."""
    best = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :count].astype(np.int32)
    values = np.take_along_axis(weights, best, axis=1)
    return ItemToItem(values, np.where(values != 0, best, 0).astype(np.int32))


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize("model", [WHOLE, neighbours_of(WEIGHTS, 3)])
def test_items_met_vote_once_each_and_unknown_ones_not_at_all(model: ItemToItem) -> None:
    np.testing.assert_array_equal(model.scores(rows(1), rows(2, 3)), [2, 3])
    np.testing.assert_array_equal(model.scores(rows(1, 3, 1), rows(2, 2, 1)), [13, 13, 0])
    np.testing.assert_array_equal(model.scores(rows(0, 2, 0), rows(0, 1)), [0, 5])
    assert model.scores(rows(), rows(1, 2)).tolist() == [0, 0]
    assert model.scores(rows(1), rows()).shape == (0,)
    assert model.scores(rows(1), rows(2)).dtype == np.float32


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_neighbours_say_what_the_whole_says(seed: int, size: int) -> None:
    """Where every weight but zeros is a neighbour's, both layouts are one model; and a call leaves nothing behind."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(size, size)).astype(np.float32) * (rng.random((size, size)) < 0.4)
    weights[0], weights[:, 0] = 0, 0
    whole, sparse = ItemToItem(weights), neighbours_of(weights, size)
    for _ in range(3):
        met, candidates = (rng.integers(0, size, n).astype(np.int32) for n in (7, 12))
        np.testing.assert_allclose(sparse.scores(met, candidates), whole.scores(met, candidates), atol=1e-5)


def test_threads_do_not_meet() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(300, 300)).astype(np.float32)
    weights[0], weights[:, 0] = 0, 0
    sparse = neighbours_of(weights, 50)
    asked = [tuple(rng.integers(0, 300, n).astype(np.int32) for n in (20, 100)) for _ in range(64)]
    alone = [sparse.scores(*one) for one in asked]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(lambda one: sparse.scores(*one), asked), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", [WHOLE, neighbours_of(WEIGHTS, 2)])
def test_it_comes_back_as_it_was_rounded(model: ItemToItem, tmp_path: Path) -> None:
    third = ItemToItem(model.weights / 3, model.neighbours)
    third.save(tmp_path / "model")
    again = ItemToItem.load(tmp_path / "model")
    np.testing.assert_array_equal(again.weights, third.rounded().weights)
    np.testing.assert_allclose(again.weights, third.weights, rtol=1e-3)
    assert (again.neighbours is None) == (model.neighbours is None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInputError, match=r"shape \(3, 2\) where \(3, 3\)"):
        ItemToItem(np.zeros((3, 2), np.float32))
    path = tmp_path / "model"
    with pytest.raises(ModelFileError, match="save the model again"):
        ItemToItem.load(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelFileError, match="save the model again"):
        ItemToItem.load(path)
    ItemToItem(np.ones((3, 1), np.float32), np.array([[1], [2], [3]], np.int32)).save(path)
    with pytest.raises(ModelFileError, match="outside its 3 rows"):
        ItemToItem.load(path)
