from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.drift.chance import chance
from cascade.drift.errors import DriftInputError
from cascade.drift.psi import psi

counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=20).filter(any)
pairs = st.integers(1, 20).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 10_000), min_size=size, max_size=size).filter(any)] * 2)
)


def test_a_known_answer() -> None:
    """Halves against 60 to 40: 0.1 ln 1.2 − 0.1 ln 0.8; the smoothing moves it by less than a thousandth."""
    assert psi([50, 50], [60, 40]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8), rel=1e-3)


def test_the_usual_thresholds_mean_shifts_that_one_would_name() -> None:
    """Deciles of a normal: a mean moved by a tenth of a deviation is nothing, by a third to watch, by half drift."""
    rng = np.random.default_rng(0)
    edges = np.quantile(rng.normal(size=100_000), np.arange(1, 10) / 10)

    def moved(by: float) -> float:
        both = (np.bincount(np.searchsorted(edges, rng.normal(at, size=100_000)), minlength=10) for at in (0, by))
        return psi(*both)

    assert moved(0.1) < 0.02
    assert 0.1 < moved(0.35) < 0.15
    assert moved(0.55) > 0.25


@given(counts, st.integers(1, 1000))
def test_the_same_shares_have_none_whatever_their_size(histogram: list[int], times: int) -> None:
    assert psi(histogram, [count * times for count in histogram]) == pytest.approx(0, abs=1e-12)


@given(pairs)
def test_it_is_never_negative_finite_and_the_same_in_both_directions(both: tuple[list[int], list[int]]) -> None:
    index = psi(*both)

    assert 0 <= index < 20
    assert index == pytest.approx(psi(both[1], both[0]), rel=1e-9, abs=1e-12)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_bins_does_not_matter(both: tuple[list[int], list[int]], random: object) -> None:
    order = list(range(len(both[0])))
    random.shuffle(order)  # type: ignore[attr-defined]

    assert psi(*both) == pytest.approx(psi(*([one[at] for at in order] for one in both)), rel=1e-9, abs=1e-12)


@given(pairs)
def test_other_shares_have_some(both: tuple[list[int], list[int]]) -> None:
    shares = [np.array(one) / sum(one) for one in both]
    if np.abs(shares[0] - shares[1]).max() > 0.01:
        assert psi(*both) > 1e-5


@pytest.mark.parametrize(
    ("expected", "actual", "told"),
    [
        ([1, 2], [1, 2, 3], "2 bins and actual 3"),
        ([0, 0], [1, 2], "not all zero"),
        ([1, -1], [1, 2], "not negative"),
        ([1, 2], [1, float("nan")], "actual is"),
        ([], [], "one number a bin"),
        ([[1]], [[1]], "one number a bin"),
    ],
)
def test_what_is_no_histogram_is_refused(expected: list[float], actual: list[float], told: str) -> None:
    with pytest.raises(DriftInputError, match=told):
        psi(expected, actual)


def test_chance_is_what_samples_of_one_population_stay_below() -> None:
    """Of 2,000 pairs of samples about one in a hundred lies above."""
    rng = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    drawn = [psi(rng.multinomial(2000, shares), rng.multinomial(500, shares)) for _ in range(2000)]

    assert 0.002 < np.mean(np.array(drawn) > chance(10, 2000, 500)) < 0.025


def test_chance_without_rows_reaches_anything() -> None:
    assert chance(10, 0, 100) == chance(10, 100, 0) == math.inf
    assert chance(1, 100, 100) > 0
