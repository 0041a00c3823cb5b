"""One suite for both baselines, and each one's own answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cascade.training.baselines import ItemKnn, Popularity, top_positions
from cascade.training.errors import TrainingInputError

# a and b share items 0 and 1; c stands apart with 3
USERS = ["a", "a", "b", "b", "b", "c", "c"]
ITEMS = np.array([0, 1, 0, 1, 2, 3, 3])


@pytest.fixture(params=["popularity", "item-kNN"])
def baseline(request):
    if request.param == "popularity":
        return Popularity(ITEMS, 5)
    return ItemKnn(USERS, ITEMS, 5)


def test_lists_are_the_highest_scores_in_order(baseline) -> None:
    users = ["a", "b", "nobody", None]
    scores, lists = baseline.scores(users), baseline.recommend(users, 3)
    assert scores.shape == (4, 5)
    assert lists.shape == (4, 3)
    assert lists.dtype == np.int32
    np.testing.assert_array_equal(lists, top_positions(scores, 3))


def test_somebody_unknown_gets_what_is_popular(baseline) -> None:
    assert baseline.recommend(["nobody"], 3).tolist() == [[0, 1, 3]]
    assert baseline.recommend([None], 3).tolist() == [[0, 1, 3]]


def test_nobody_gets_nothing(baseline) -> None:
    assert baseline.recommend([], 3).shape[0] == 0


def test_more_than_there_are_gives_all(baseline) -> None:
    assert sorted(baseline.recommend(["a"], 99)[0].tolist()) == [0, 1, 2, 3, 4]


def test_neighbours_are_cosines_over_shared_users() -> None:
    scores = ItemKnn(USERS, ITEMS, 5).scores(["a"])[0]
    # items 0 and 1: users {a, b}; item 2: {b}; cosine(0, 1) = 1, cosine(0, 2) = 1 / sqrt(2)
    np.testing.assert_allclose(scores, [1, 1, 2 / np.sqrt(2), 0, 0], rtol=1e-6)


def test_few_neighbours_keep_the_nearest() -> None:
    scores = ItemKnn(USERS, ITEMS, 5, neighbours=1).scores(["b"])[0]
    # row 2 keeps one of its two equal neighbours, rows 0 and 1 keep each other
    np.testing.assert_allclose(scores[:2], [1 + 1 / np.sqrt(2), 1], rtol=1e-6)
    assert scores[2] == 0


def test_meeting_twice_counts_once_for_neighbours() -> None:
    twice = ItemKnn([*USERS, "a"], np.append(ITEMS, 1), 5)
    np.testing.assert_allclose(twice.scores(["a"]), ItemKnn(USERS, ITEMS, 5).scores(["a"]))


def test_an_arrow_column_of_users_is_the_same_as_their_names() -> None:
    column = pa.chunked_array([pa.array(USERS[:3]), pa.array(USERS[3:])])
    expected = ItemKnn(USERS, ITEMS, 5).scores([*"abc", None])
    for given in (column, column.dictionary_encode()):
        np.testing.assert_array_equal(ItemKnn(given, ITEMS, 5).scores([*"abc", None]), expected)


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(TrainingInputError, match="no interactions"):
        Popularity(np.array([], int), 3)
    with pytest.raises(TrainingInputError, match="2 user ids and 1 items"):
        ItemKnn(["a", "b"], np.array([0]), 3)
