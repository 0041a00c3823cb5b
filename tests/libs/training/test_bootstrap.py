from __future__ import annotations

import numpy as np
import pytest

from cascade.training.bootstrap import Bootstrap, interval
from cascade.training.errors import MetricInputError


def test_a_draw_counts_all_rows_of_a_user_as_often_as_the_user() -> None:
    users = np.array([7, 7, 3])
    draws = Bootstrap(users, 50)
    assert (draws.weights.sum(axis=1) == 2).all()
    values = np.array([1.0, 2.0, 10.0])
    for n in range(50):
        weights = draws.row_weights(n)
        assert weights[0] == weights[1]
        assert draws.sums(values)[n] == weights @ values
        assert draws.means(values)[n] == pytest.approx(weights @ values / weights.sum())


def test_rows_that_do_not_count_are_left_out() -> None:
    draws = Bootstrap(np.array([0, 1]), 100)
    means = draws.means(np.array([4.0, np.nan]))
    assert set(means[np.isfinite(means)].tolist()) == {4.0}
    assert interval(means) == interval(np.array([4.0]))
    assert interval(np.array([np.nan])) is None


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    found = interval(Bootstrap(np.arange(2000), 2000).means(values))
    error = 1.96 * values.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.15 * error)


def test_a_users_rows_are_one_witness() -> None:
    """Ten copies of each row make no interval narrower."""
    values = np.random.default_rng(1).random(400)
    single = interval(Bootstrap(np.arange(400)).means(values))
    copied = interval(Bootstrap(np.repeat(np.arange(400), 10)).means(np.repeat(values, 10)))
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=1e-3)


def test_differences_are_paired() -> None:
    """A model that is ahead by little on every row is ahead for certain, however the rows scatter."""
    draws = Bootstrap(np.arange(300))
    one = np.random.default_rng(2).random(300)
    found = interval(draws.means(one + 0.01) - draws.means(one))
    assert found.low == pytest.approx(0.01, abs=1e-5)
    assert found.high == pytest.approx(0.01, abs=1e-5)


def test_coverage_of_the_interval_over_many_samples() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for n in range(200):
        sizes = rng.integers(1, 6, 150)
        users = np.repeat(np.arange(150), sizes)
        taste = np.repeat(rng.random(150), sizes)
        found = interval(Bootstrap(users, 300, seed=n).means((rng.random(len(users)) < taste).astype(float)))
        hits += found.low <= 0.5 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_the_seed_decides() -> None:
    users = np.arange(20)
    assert (Bootstrap(users, 10, 1).weights == Bootstrap(users, 10, 1).weights).all()
    assert (Bootstrap(users, 10, 1).weights != Bootstrap(users, 10, 2).weights).any()
    with pytest.raises(MetricInputError, match="take at least 2"):
        Bootstrap(users, 1)
