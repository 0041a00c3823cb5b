from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cascade.training import metrics as m
from cascade.training.errors import MetricInputError

HITS = arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 12)))
ONE_HIT = st.lists(st.integers(-1, 11), min_size=1, max_size=8).map(
    lambda ranks: np.array([[rank == n for n in range(12)] for rank in ranks])
)
SCORED = st.integers(2, 40).flatmap(
    lambda size: st.tuples(
        arrays.arrays(np.int8, size, elements=st.integers(0, 1)).filter(lambda y: 0 < y.sum() < len(y)),
        arrays.arrays(np.float64, size, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])),
    )
)


def test_hits_compare_lists_with_the_one_right_item() -> None:
    hits = m.hits_of(np.array([[4, 2, 7], [1, -1, -1]]), np.array([7, -1]))
    assert hits.tolist() == [[False, False, True], [False, False, False]]


def test_known_answers_for_one_relevant_item() -> None:
    hits = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    assert m.recall_at_k(hits, 2).tolist() == [1, 0, 0]
    assert m.hit_rate_at_k(hits, 4).tolist() == [1, 1, 0]
    np.testing.assert_allclose(m.ndcg_at_k(hits, 4), [1 / np.log2(3), 1 / np.log2(5), 0])
    np.testing.assert_allclose(m.reciprocal_rank(hits), [1 / 2, 1 / 4, 0])
    np.testing.assert_allclose(m.reciprocal_rank(hits, 2), [1 / 2, 0, 0])


def test_known_answers_for_several_relevant_items() -> None:
    hits = np.array([[1, 0, 1, 0]], bool)
    relevant = np.array([3])
    np.testing.assert_allclose(m.recall_at_k(hits, 3, relevant), [2 / 3])
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    np.testing.assert_allclose(m.ndcg_at_k(hits, 4, relevant), [(1 + 1 / 2) / ideal])
    np.testing.assert_allclose(m.ndcg_at_k(hits, 2, relevant), [1 / (1 + 1 / np.log2(3))])
    assert m.ndcg_at_k(np.zeros((1, 4), bool), 4, np.array([0])).tolist() == [0]


def test_known_auc() -> None:
    assert m.auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == pytest.approx(0.75)
    assert m.auc(np.array([0, 1]), np.array([0.5, 0.5])) == 0.5


def test_known_log_loss() -> None:
    assert m.log_loss(np.array([1, 0]), np.array([0.8, 0.4])) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert np.isfinite(m.log_loss(np.array([1, 0]), np.array([0.0, 1.0])))


def test_known_calibration_error() -> None:
    labels = np.array([0, 0, 1, 1, 1, 0])
    probabilities = np.array([0.1, 0.1, 0.6, 0.6, 0.6, 0.1])
    assert m.calibration_error(labels, probabilities, bins=2) == pytest.approx((3 * 0.1 + 3 * 0.4) / 6)


def test_known_auc_with_weights() -> None:
    auc = m.WeightedAuc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    # pairs: 0.35 beats 0.1 and loses to 0.4, 0.8 beats both; the second negative counts thrice
    assert auc(np.array([1.0, 3.0, 1.0, 1.0])) == pytest.approx((1 + 1 + 3) / (2 * 4))
    assert np.isnan(auc(np.array([1.0, 1.0, 0.0, 0.0])))


def test_known_coverage_and_gini() -> None:
    lists = np.array([[0, 1], [0, 2], [0, -1]])
    assert m.coverage(lists, 4) == 3 / 4
    # exposures 0, 1, 1, 3 of 5: 2 · (1·0 + 2·1 + 3·1 + 4·3) / (4 · 5) − 5/4
    assert m.gini(lists, 4) == pytest.approx(2 * 17 / 20 - 5 / 4)
    assert m.gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)
    assert m.gini(np.array([[0], [0]]), 4) == pytest.approx(3 / 4)


def test_known_novelty() -> None:
    shares = np.array([0.5, 0.25, 1.0])
    lists = np.array([[0, 1], [2, -1], [-1, -1]])
    np.testing.assert_allclose(m.novelty(lists, shares), [(1 + 2) / 2, 0, 0])


def test_known_diversity() -> None:
    vectors = np.array([[1.0, 0], [3.0, 0], [0, 2.0], [-1.0, 0], [0, 0]])
    lists = np.array([[0, 1, 2], [0, 3, -1], [0, 1, -1], [0, 4, -1], [0, -1, -1]])
    # cosines of the first list: 1, 0, 0
    np.testing.assert_allclose(m.intra_list_diversity(lists, vectors), [2 / 3, 2, 0, 1, 0], atol=1e-12)


@given(HITS, st.integers(1, 15))
def test_ranking_metrics_stay_between_0_and_1_and_grow_with_k(hits: np.ndarray, k: int) -> None:
    relevant = hits.sum(axis=1)
    for metric in (m.recall_at_k, m.ndcg_at_k):
        values = metric(hits, k, relevant)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert (m.recall_at_k(hits, k + 1, relevant) >= m.recall_at_k(hits, k, relevant)).all()
    everything = m.recall_at_k(hits, hits.shape[1], relevant)
    np.testing.assert_array_equal(everything, relevant > 0)
    assert (m.hit_rate_at_k(hits, k) >= m.recall_at_k(hits, k, relevant)).all()


@given(ONE_HIT, st.integers(1, 12))
def test_with_one_right_item_gains_agree_with_its_rank(hits: np.ndarray, k: int) -> None:
    for row, ndcg, recall, reciprocal in zip(
        hits, m.ndcg_at_k(hits, k), m.recall_at_k(hits, k), m.reciprocal_rank(hits, k), strict=True
    ):
        ranks = np.flatnonzero(row[:k])
        assert recall == len(ranks)
        assert ndcg == pytest.approx(1 / np.log2(ranks[0] + 2) if len(ranks) else 0)
        assert reciprocal == pytest.approx(1 / (ranks[0] + 1) if len(ranks) else 0)


@given(SCORED)
def test_auc_is_the_share_of_pairs_in_order(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    above, below = scores[labels == 1][:, None], scores[labels == 0][None, :]
    expected = ((above > below) + 0.5 * (above == below)).mean()
    assert m.auc(labels, scores) == pytest.approx(expected)
    assert m.auc(labels, -scores) == pytest.approx(1 - expected)
    assert m.auc(labels, np.exp(scores)) == pytest.approx(expected)


@given(SCORED)
def test_losses_of_probabilities_are_bounded(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = scored
    assert m.log_loss(labels, probabilities) >= 0
    assert 0 <= m.calibration_error(labels, probabilities) <= 1
    assert m.log_loss(labels, labels.astype(float)) == pytest.approx(0, abs=1e-6)
    # one bin compares nothing but the means
    expected = abs(labels.mean() - probabilities.mean())
    assert m.calibration_error(labels, probabilities, bins=1) == pytest.approx(expected)


def test_the_truth_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(50_000)
    labels = rng.random(50_000) < probabilities
    assert m.calibration_error(labels, probabilities) < 0.01
    assert m.calibration_error(labels, probabilities**2) > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.recall_at_k(np.zeros((2, 2), bool), 0), "k is 0"),
        (lambda: m.recall_at_k(np.zeros(2, bool), 1), "shape"),
        (lambda: m.ndcg_at_k(np.zeros((2, 2), bool), 1, np.array([1])), "one count"),
        (lambda: m.hits_of(np.zeros((2, 2), int), np.zeros(3, int)), "ranked has shape"),
        (lambda: m.auc(np.ones(3), np.zeros(3)), "both classes"),
        (lambda: m.auc(np.array([0, 1]), np.array([0, np.nan])), "NaN"),
        (lambda: m.auc(np.array([0, 2]), np.zeros(2)), "beside 0 and 1"),
        (lambda: m.auc(np.zeros(0), np.zeros(0)), "M > 0"),
        (lambda: m.log_loss(np.array([0, 1]), np.array([0.5, 1.5])), "give 0 to 1"),
        (lambda: m.calibration_error(np.array([0, 1]), np.array([0.5, 0.5]), bins=0), "0 bins"),
        (lambda: m.gini(np.array([[-1]]), 3), "lists are empty"),
    ],
)
def test_what_is_not_defined_is_refused(call, message: str) -> None:
    with pytest.raises(MetricInputError, match=message):
        call()
