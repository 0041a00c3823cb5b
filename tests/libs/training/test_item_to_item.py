from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from cascade.training import item_to_item
from cascade.training.item_to_item import co_occurrence, ease, fit, users_items, weighed

IDS = np.array([3, 0, 1, 2], np.int32)
"""rows of the ids' table by position: the second item's id is not known"""


class Rows(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.item_position)


def training_rows(users: list[int], positions: list[int], histories: bool = True) -> Rows:
    """Users are told apart by where their histories start."""
    starts = SimpleNamespace(history_start=np.array(users, np.int64) * 100) if histories else None
    return Rows(histories=starts, item_position=np.array(positions, np.int32))


ITEMS = SimpleNamespace(categorical=np.stack([IDS, np.ones(4, np.int32)], axis=1))


def random_met(users: int, items: int, seed: int = 0) -> sp.csr_matrix:
    met = sp.random(users, items, 0.2, "csr", np.float32, random_state=seed)
    met.data[:] = 1
    dense = met.toarray()
    dense[:, 0] = 0
    return sp.csr_matrix(dense)


def test_users_are_told_apart_by_their_histories() -> None:
    met = users_items([training_rows([7, 7, 7, 9, 9], [0, 2, 2, 3, 1])], ITEMS)
    # Row 3 is position 0; what was met twice counts once, an unknown id not at all.
    np.testing.assert_array_equal(met.toarray(), [[0, 1, 0, 1], [0, 0, 1, 0]])
    assert users_items([training_rows([1], [0], histories=False)], ITEMS).shape == (0, 4)
    assert fit(users_items([training_rows([], [])], ITEMS)) == {}


def test_ease_is_the_ridge_regression_of_each_item_on_all_others() -> None:
    met = random_met(60, 20)
    weights, dense = ease(met, 50.0), met.toarray().astype(np.float64)
    for item in (1, 7, 19):
        others = np.delete(dense, item, axis=1)
        expected = np.linalg.solve(others.T @ others + 50 * np.eye(19), others.T @ dense[:, item])
        np.testing.assert_allclose(np.delete(weights[:, item], item), expected, atol=1e-5)
        assert weights[item, item] == 0


def test_co_occurrence_by_hand() -> None:
    met = sp.csr_matrix(np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 1]], np.float32))
    whole = co_occurrence(met, np.arange(4))
    assert whole[1, 2] == pytest.approx(2 / (3**0.7 * 2**0.7 + 20))
    assert whole[1, 3] == pytest.approx(1 / (3**0.7 * 2**0.7 + 20))
    np.testing.assert_array_equal(whole.diagonal(), 0)
    np.testing.assert_allclose(whole, whole.T)
    np.testing.assert_array_equal(co_occurrence(met, np.array([2, 3])), whole[[2, 3]])


def test_a_small_catalog_has_both_and_their_sum_is_one_model() -> None:
    models = fit(random_met(60, 20))
    assert list(models) == ["ease", "co_occurrence"]
    total = weighed(list(models.values()), [2.0, 0.5])
    assert total is not None
    expected = 2 * models["ease"].weights + 0.5 * models["co_occurrence"].weights
    np.testing.assert_allclose(total.weights, expected, rtol=1e-3, atol=1e-6)
    assert weighed(list(models.values()), [0.0, 0.0]) is None


@pytest.mark.parametrize(("ease_items", "name"), [(100, "ease"), (10, "co_occurrence")])
def test_a_large_catalog_keeps_the_strongest_neighbours(monkeypatch, ease_items: int, name: str) -> None:
    met = random_met(200, 30)
    whole = ease(met) if name == "ease" else co_occurrence(met, np.arange(30))
    for constant, value in {"WHOLE_ITEMS": 8, "EASE_ITEMS": ease_items, "NEIGHBOURS": 5, "_AT_ONCE": 7}.items():
        monkeypatch.setattr(item_to_item, constant, value)
    [(found, model)] = fit(met).items()
    assert found == name
    assert model.neighbours is not None
    for row in range(1, 30):
        strongest = np.sort(np.abs(whole[row]))[-5:]
        np.testing.assert_allclose(np.sort(np.abs(model.weights[row])), strongest, atol=1e-6)
        kept = model.neighbours[row] > 0
        np.testing.assert_array_equal(whole[row, model.neighbours[row][kept]], model.weights[row][kept])
    assert not model.weights[0].any()
    with pytest.raises(ValueError, match="weigh one"):
        weighed([model, model], [1.0, 1.0])
