from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from services.ranker import rerank
from services.ranker.rerank import propensities, sample, top_k

probabilities = st.lists(st.floats(0, 1, width=32), max_size=50).map(lambda p: np.array(p, np.float32))


@given(probabilities, st.integers(1, 60))
def test_top_k_is_best_first_with_ties_in_the_order_received(scores: np.ndarray, k: int) -> None:
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert top_k(scores, k).tolist() == expected


@given(probabilities, st.integers(1, 60), st.floats(1e-300, 100), st.integers(0, 2**63 - 1))
def test_a_sample_holds_k_different_candidates_and_a_seed_repeats_it(
    scores: np.ndarray, k: int, temperature: float, seed: int
) -> None:
    drawn = sample(scores, k, temperature, np.random.default_rng(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == min(k, len(scores))
    assert set(drawn) <= set(range(len(scores)))
    assert drawn == sample(scores, k, temperature, np.random.default_rng(seed)).tolist()


@given(
    st.lists(st.integers(1, 10_000), min_size=1, max_size=50, unique=True),
    st.integers(1, 60),
    st.sampled_from([1e-320, 1e-12, 1e-7]),
    st.integers(0, 1000),
)
def test_temperature_towards_zero_is_the_top_k(numbers: list[int], k: int, temperature: float, seed: int) -> None:
    scores = np.array(numbers, np.float64) / 10_000
    drawn = sample(scores, k, temperature, np.random.default_rng(seed))
    assert drawn.tolist() == top_k(scores, k).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_first_places_follow_the_softmax(temperature: float) -> None:
    scores = np.array([0.5, 0.2, 0.1, 0.05, 0.0001])
    draws = 20_000
    rng = np.random.default_rng(1)
    firsts = np.bincount([sample(scores, 1, temperature, rng)[0] for _ in range(draws)], minlength=len(scores))
    weights = scores ** (1 / temperature)
    expected = weights / weights.sum()
    # five standard errors of a share
    np.testing.assert_array_less(
        np.abs(firsts / draws - expected), 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-9
    )


def test_second_places_follow_the_softmax_of_what_is_left() -> None:
    scores = np.array([0.6, 0.3, 0.1])
    draws = 20_000
    rng = np.random.default_rng(2)
    pairs = np.array([sample(scores, 2, 1.0, rng) for _ in range(draws)])
    for first in range(3):
        for second in set(range(3)) - {first}:
            share = np.mean((pairs == [first, second]).all(axis=1))
            expected = scores[first] * scores[second] / (1 - scores[first])
            assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)


def test_a_high_temperature_is_uniform_whatever_the_scores() -> None:
    scores = np.array([1.0, 0.9, 0.5, 0.4])
    rng = np.random.default_rng(3)
    firsts = np.bincount([sample(scores, 1, 1e6, rng)[0] for _ in range(20_000)], minlength=4)
    np.testing.assert_allclose(firsts / 20_000, 0.25, atol=0.02)


def test_probabilities_of_zero_and_extreme_spreads_neither_overflow_nor_vanish() -> None:
    scores = np.array([0.0, 1e-38, 1.0, 0.0], np.float32)
    with np.errstate(all="raise"):
        assert sorted(sample(scores, 4, 1.0, np.random.default_rng(0)).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_above_zero(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        sample(np.array([0.5]), 1, temperature, np.random.default_rng(0))


def test_propensities_are_those_worked_out_by_hand() -> None:
    scores = np.array([0.5, 0.3, 0.2])
    drawn = np.array([1, 0, 2])
    np.testing.assert_allclose(propensities(scores, drawn, 1.0), [0.3, 0.5 / 0.7, 1.0], rtol=1e-12)
    squared = [0.09 / 0.38, 0.25 / 0.29, 1.0]  # at T = 1/2 the weights are the squares
    np.testing.assert_allclose(propensities(scores, drawn, 0.5), squared, rtol=1e-12)
    np.testing.assert_allclose(propensities(scores, drawn[:1], 1.0), [0.3], rtol=1e-12)
    assert propensities(scores, np.array([], np.intp), 1.0).tolist() == []


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30).map(lambda p: np.array(p, np.float32)),
    st.integers(1, 40),
    st.floats(1e-3, 100),
    st.integers(0, 2**32),
)
def test_at_each_place_the_propensities_of_all_that_are_left_sum_to_one(
    scores: np.ndarray, k: int, temperature: float, seed: int
) -> None:
    drawn = sample(scores, k, temperature, np.random.default_rng(seed))
    found = propensities(scores, drawn, temperature)
    assert found.shape == drawn.shape
    assert np.isfinite(found).all()
    for place in range(len(drawn)):
        before = drawn[:place]
        left = np.setdiff1d(np.arange(len(scores)), before)
        each = [propensities(scores, np.append(before, item), temperature)[-1] for item in left]
        assert sum(each) == pytest.approx(1.0, rel=1e-9)
        assert found[place] == pytest.approx(each[int(np.flatnonzero(left == drawn[place])[0])], rel=1e-9)
    if len(drawn) == len(scores):
        assert found[-1] == 1.0


def test_propensities_are_the_shares_of_many_draws() -> None:
    scores, temperature, draws = np.array([0.6, 0.3, 0.1, 0.05]), 0.7, 20_000
    rng = np.random.default_rng(4)
    pairs = [tuple(sample(scores, 2, temperature, rng).tolist()) for _ in range(draws)]
    for pair in [(0, 1), (1, 0), (2, 3)]:
        expected = float(np.prod(propensities(scores, np.array(pair), temperature)))
        share = pairs.count(pair) / draws
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("temperature", [1e-320, 1e-12, 1e300])
def test_extreme_temperatures_give_propensities_all_the_same(temperature: float) -> None:
    scores = np.array([0.0, 1e-38, 1.0, 1.0], np.float32)
    drawn = sample(scores, 4, temperature, np.random.default_rng(0))
    found = propensities(scores, drawn, temperature)
    assert np.isfinite(found).all()
    assert (found <= 1).all()
    assert found[-1] == 1.0


@given(st.integers(0, 3000), st.integers(1, 1000), st.integers(2, 1000), st.booleans(), st.integers(0, 2**32))
def test_partitioning_first_changes_nothing(count: int, k: int, different: int, damaged: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, different, count) / different).astype(np.float32)  # few different ones: many ties
    if damaged:
        scores[rng.random(count) < 0.5] = np.nan
    assert top_k(scores, k).tolist() == np.argsort(-scores, kind="stable")[:k].tolist()


@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32)),
    st.integers(1, 60),
    st.floats(1e-3, 100),
    st.integers(0, 2**32),
)
def test_summing_from_the_end_gives_the_propensities_of_every_ratio(
    scores: np.ndarray, k: int, temperature: float, seed: int
) -> None:
    drawn = sample(scores, k, temperature, np.random.default_rng(seed))
    by_ratios = rerank._by_ratios(rerank.log_chances(scores), drawn, temperature)
    np.testing.assert_allclose(propensities(scores, drawn, temperature), by_ratios, rtol=1e-9)
