"""One suite for all baselines, and each one's own answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cascade.features.item_table import ItemTable
from cascade.training.baselines import Als, Bpr, Ease, ItemKnn, Met, Popularity, RecentPopularity, top_positions
from cascade.training.contestants import (
    ALL_BASELINES,
    ALS,
    BPR,
    EASE,
    EASE_ITEMS,
    ITEM_KNN,
    POPULARITY,
    RECENT,
    fit_baselines,
    history_matrix,
)
from cascade.training.errors import TrainingInputError

# a and b share items 0 and 1; c stands apart with 3
USERS = np.array([0, 0, 1, 1, 1, 2, 2], np.int32)
ITEMS = np.array([0, 1, 0, 1, 2, 3, 3], np.int32)
TIMES = np.arange(7, dtype=np.int64) * 86_400
MET = Met(pa.array(["a", "b", "c"]), USERS, ITEMS, TIMES, 5)

MAKERS = {
    POPULARITY: Popularity,
    RECENT: RecentPopularity,
    ITEM_KNN: ItemKnn,
    ALS: lambda met: Als(met, factors=4),
    BPR: lambda met: Bpr(met, factors=4, iterations=20),
    EASE: lambda met: Ease(met, regularisation=1.0),
}


@pytest.fixture(params=ALL_BASELINES)
def name(request) -> str:
    return request.param


def asked(users: list[int], met: Met = MET):
    """Known users with their training history; -1 without any."""
    rows = np.array(users, np.int32)
    history = met.matrix[np.maximum(rows, 0)].tolil()
    history[rows < 0] = 0
    return rows, history.tocsr()


def test_scores_are_finite_and_one_a_user_and_item(name: str) -> None:
    scores = MAKERS[name](MET).scores(*asked([0, 1, 2, -1]))
    assert scores.shape == (4, 5)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_somebody_unknown_gets_what_is_popular(name: str) -> None:
    expected = [3, 2] if name == RECENT else [0, 1, 3]
    found = top_positions(MAKERS[name](MET).scores(*asked([-1])), len(expected))
    assert found.tolist() == [expected]


def test_nobody_gets_nothing(name: str) -> None:
    assert MAKERS[name](MET).scores(*asked([])).shape == (0, 5)


def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    first, second = (MAKERS[name](MET).scores(*asked([0, 1, 2])) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def two_camps() -> Met:
    """60 users who met most of items 0 to 9 or most of items 10 to 19."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 7)
    items = np.concatenate([rng.choice(10, 7, replace=False) + 10 * (u % 2) for u in range(60)])
    return Met(
        pa.array([str(u) for u in range(60)]), users.astype(np.int32), items.astype(np.int32), np.arange(420), 20
    )


@pytest.mark.parametrize("name", [ITEM_KNN, ALS, BPR, EASE])
def test_what_is_left_of_a_users_camp_comes_before_the_other_camp(name: str) -> None:
    met = two_camps()
    users, history = asked(list(range(60)), met)
    scores = np.array(MAKERS[name](met).scores(users, history))
    scores[history.nonzero()] = -np.inf
    best = top_positions(scores, 3)
    assert ((best // 10) == (users % 2)[:, None]).mean() > 0.95


@pytest.mark.parametrize("name", [ITEM_KNN, ALS, EASE])
def test_what_was_met_since_the_training_counts(name: str) -> None:
    met = two_camps()
    newcomer = history_matrix(np.zeros(3, int), np.array([10, 12, 15]), (1, 20))
    best = top_positions(MAKERS[name](met).scores(np.array([-1], np.int32), newcomer), 8)
    assert (best >= 10).all()


def test_neighbours_are_cosines_over_shared_users() -> None:
    scores = ItemKnn(MET).scores(*asked([0]))[0]
    # items 0 and 1: users {a, b}; item 2: {b}; cosine(0, 1) = 1, cosine(0, 2) = 1 / sqrt(2)
    np.testing.assert_allclose(scores, [1, 1, 2 / np.sqrt(2), 0, 0], rtol=1e-6)


def test_few_neighbours_keep_the_nearest() -> None:
    scores = ItemKnn(MET, neighbours=1).scores(*asked([1]))[0]
    # row 2 keeps one of its two equal neighbours, rows 0 and 1 keep each other
    np.testing.assert_allclose(scores[:2], [1 + 1 / np.sqrt(2), 1], rtol=1e-6)
    assert scores[2] == 0


def test_meeting_twice_counts_once_for_neighbours_and_twice_for_popularity() -> None:
    twice = Met(MET.user_ids, np.append(USERS, 0), np.append(ITEMS, 1), np.append(TIMES, 0), 5)
    np.testing.assert_array_equal(ItemKnn(twice).scores(*asked([0])), ItemKnn(MET).scores(*asked([0])))
    assert Popularity(twice).scores(*asked([0]))[0].tolist() == [2, 3, 1, 2, 0]


def test_recent_popularity_halves_with_age() -> None:
    scores = RecentPopularity(MET, half_life_days=2.0).scores(*asked([-1]))[0]
    np.testing.assert_allclose(scores[3], 1 + 2**-0.5, rtol=1e-6)
    np.testing.assert_allclose(scores[0], 2**-3 + 2**-2, rtol=1e-6)


def test_ease_solves_its_equations() -> None:
    weights = Ease(MET, regularisation=2.0)._weights
    x = MET.matrix.toarray().astype(np.float64)
    assert np.diag(weights).tolist() == [0] * 5
    # Stationary point of |X − XB|² + λ|B|² with a diagonal of 0: the gradient vanishes off the diagonal.
    gradient = x.T @ (x @ weights - x) + 2.0 * weights
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0, atol=1e-5)


def test_als_factors_are_the_solution_of_its_last_half_step() -> None:
    model = Als(MET, factors=2, regularisation=0.1, alpha=3.0)
    y = model._model.item_factors.astype(np.float64)
    history = asked([1])[1]
    confidence = np.diag(1 + 2.0 * history.toarray()[0])  # weights of 3 where met, 1 elsewhere
    preference = history.toarray()[0]
    expected = np.linalg.solve(y.T @ confidence @ y + 0.1 * np.eye(2), y.T @ (3.0 * preference))
    np.testing.assert_allclose(model.scores(*asked([1]))[0], y @ expected, rtol=1e-3, atol=1e-3)


def test_interactions_come_from_tables_without_what_is_refused_or_unknown() -> None:
    items = ItemTable(
        ["x", "y"],
        np.zeros((2, 4), np.int32),
        np.zeros((2, 1), np.float32),
        np.zeros((2, 64), np.float32),
        np.zeros((2, 64), np.float32),
    )
    names = ("user_id", "item_id", "timestamp", "event_type")
    first = [("u", "x", 5, "view"), ("u", "gone", 6, "view"), ("v", "y", 7, "not_interested")]
    second = [("w", "y", 8, "purchase"), ("u", "y", 9, "view")]
    parts = [pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))) for rows in (first, second)]
    met = Met.of(parts, items)
    who = [met.user_ids[int(n)].as_py() for n in met.user]
    assert list(zip(who, met.item.tolist(), met.timestamp.tolist(), strict=True)) == [
        ("u", 0, 5),
        ("w", 1, 8),
        ("u", 1, 9),
    ]
    assert met.rows_of(pa.array(["w", None, "nobody"])).tolist() == [met.user[1], -1, -1]
    with pytest.raises(TrainingInputError, match="no interactions"):
        Met.of([parts[0].slice(1)], items)


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(TrainingInputError, match="no interactions"):
        Met(pa.array([], pa.string()), USERS[:0], ITEMS[:0], TIMES[:0], 3)
    with pytest.raises(TrainingInputError, match="7 users, 6 items"):
        Met(MET.user_ids, USERS, ITEMS[:6], TIMES, 5)


def test_all_compete_tuned_on_the_end_of_the_training() -> None:
    met = two_camps()
    for exclude in (False, True):
        found = fit_baselines(ALL_BASELINES, met, exclude_seen=exclude)
        assert list(found.fitted) == list(ALL_BASELINES)
        assert not found.skipped
        again = fit_baselines(ALL_BASELINES, met, exclude_seen=exclude)
        assert again.settings == found.settings
    assert fit_baselines([EASE], MET).settings[EASE]["regularisation"] > 0


def test_a_catalog_too_large_for_ease_is_told() -> None:
    large = Met(MET.user_ids, USERS, ITEMS, TIMES, EASE_ITEMS + 1)
    found = fit_baselines([POPULARITY, EASE], large)
    assert list(found.fitted) == [POPULARITY]
    assert "10,001 items" in found.skipped[EASE]


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(TrainingInputError, match="'guess' is unknown; there are popularity"):
        fit_baselines(["guess"], MET)


def test_the_best_positions_are_those_of_a_stable_sort() -> None:
    scores = np.random.default_rng(0).integers(0, 5, (40, 30)).astype(np.float32)
    for k in (1, 7, 29, 30, 99):
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(top_positions(scores, k), expected)
