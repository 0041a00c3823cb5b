"""The sequential test: exact where outcomes can be enumerated, and its false alarms counted where they cannot."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.canary.evalues import Counts, Null, SequentialTest, log_e_value, upper_share

ERRORS = Null(1.0, 0.005)
CLICKS = Null(0.95, 0.05)
"""On lists without a click: a twentieth fewer clicks is allowed."""


def mean_e_value(null: Null, sizes: tuple[int, int], bet: tuple[float, float], truth: tuple[float, float]) -> float:
    """Over every outcome of a block, each with its probability."""
    stable, canary = sizes
    total = 0.0
    for bad, canary_bad in product(range(stable + 1), range(canary + 1)):
        chance = math.comb(stable, bad) * truth[0] ** bad * (1 - truth[0]) ** (stable - bad)
        chance *= math.comb(canary, canary_bad) * truth[1] ** canary_bad * (1 - truth[1]) ** (canary - canary_bad)
        total += chance * math.exp(log_e_value(Counts(stable, bad, canary, canary_bad), null, *bet))
    return total


@pytest.mark.parametrize("null", [Null(1.0, 0.0), ERRORS, CLICKS, Null(0.0, 0.2)])
@pytest.mark.parametrize("sizes", [(1, 1), (9, 2), (3, 7)])
@pytest.mark.parametrize("bet", [(0.1, 0.4), (0.02, 0.9), (0.5, 0.6), (0.3, 0.1)])
def test_the_mean_is_at_most_one_wherever_the_canary_is_not_worse(
    null: Null, sizes: tuple[int, int], bet: tuple[float, float]
) -> None:
    for stable in np.linspace(0, 1, 21):
        bound = min(null.bound(float(stable)), 1.0)
        for canary in np.linspace(0, bound, 9):
            assert mean_e_value(null, sizes, bet, (float(stable), float(canary))) <= 1 + 1e-9


def test_the_mean_grows_where_the_canary_is_as_bad_as_bet() -> None:
    assert mean_e_value(ERRORS, (9, 2), (0.1, 0.4), (0.1, 0.4)) > 1.2


def test_a_block_by_hand() -> None:
    """Equal sizes, no margin: the neighbour of (0.2, 0.6) is (0.4, 0.4)."""
    log_ratio = math.log(0.2 / 0.4) + math.log(0.8 / 0.6) + 2 * math.log(0.6 / 0.4)
    assert log_e_value(Counts(2, 1, 2, 2), Null(1.0, 0.0), 0.2, 0.6) == pytest.approx(log_ratio)


@settings(max_examples=200, deadline=None)
@given(
    null=st.builds(Null, st.floats(0.1, 1.0), st.floats(0.0, 0.2)),
    stable=st.floats(0.001, 0.999),
    canary=st.floats(0.001, 0.999),
    sizes=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
)
def test_as_often_bad_as_the_null_allows_wins_nothing_on_average(
    null: Null, stable: float, canary: float, sizes: tuple[int, int]
) -> None:
    """The logarithm at the mean outcome of a point of the null hypothesis: below that of the mean, which is 1."""
    bound = min(null.bound(stable), 1.0)
    expected = Counts(sizes[0], sizes[0] * stable, sizes[1], sizes[1] * bound)
    assert log_e_value(expected, null, stable, canary) <= 1e-6 * sum(sizes)


def test_nothing_is_bet_without_outcomes_or_before_stable_is_known() -> None:
    test = SequentialTest(ERRORS).seen(Counts(0, 0, 50, 50))
    assert (test.log_evidence, test.total) == (0.0, Counts(0, 0, 50, 50))
    test = SequentialTest(ERRORS).seen(Counts(1000, 1, 10, 10))
    assert test.log_evidence == 0.0
    assert test.seen(Counts(1000, 1, 0, 0)).log_evidence == 0.0
    assert test.seen(Counts(1000, 1, 10, 10)).rejects(0.001)


def test_a_fixed_bound_needs_no_stable_outcomes() -> None:
    test = SequentialTest(Null(0.0, 0.01))
    for _ in range(5):
        test = test.seen(Counts(0, 0, 20, 4))
    assert test.rejects(0.001)


def test_a_canary_found_worse_stays_so() -> None:
    test = SequentialTest(ERRORS).seen(Counts(1000, 0, 0, 0)).seen(Counts(1000, 0, 50, 25))
    assert test.rejects(0.001)
    for _ in range(50):
        test = test.seen(Counts(1000, 0, 1000, 0))
    assert test.log_evidence < 0
    assert test.rejects(0.001)


@pytest.mark.parametrize("counts", [(1, 2, 0, 0), (0, 0, 1, 2), (1, -1, 0, 0)])
def test_impossible_counts_are_refused(counts: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="give 0 ≤ bad ≤ all"):
        Counts(*counts)


@pytest.mark.parametrize("bet", [(0.0, 0.5), (0.5, 1.0)])
def test_certainties_cannot_be_bet_on(bet: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="cannot be bet on"):
        log_e_value(Counts(1, 0, 1, 0), ERRORS, *bet)


def test_upper_share() -> None:
    assert upper_share(0, 0) == 1.0
    assert upper_share(0, 1000) == pytest.approx(0.0095, abs=2e-4)
    assert upper_share(50, 1000) == pytest.approx(0.0756, abs=5e-4)
    assert upper_share(5, 5) == 1.0


def watch(
    rng: np.random.Generator, null: Null, stable: float, canary: float, looks: int, a_look: tuple[float, float]
) -> list[int]:
    """Looks at which the test stood at each chance of a false alarm below; `looks` + 1 where it never did.

    a_look: mean outcomes of stable and canary between two looks
    """
    test, found = SequentialTest(null), [looks + 1, looks + 1]
    for look in range(1, looks + 1):
        sizes = rng.poisson(a_look)
        bad = rng.binomial(sizes, [stable, canary])
        test = test.seen(Counts(int(sizes[0]), int(bad[0]), int(sizes[1]), int(bad[1])))
        for place, false_alarms in enumerate((0.05, 0.01)):
            if test.rejects(false_alarms):
                found[place] = min(found[place], look)
        if found[1] <= looks:
            break
    return found


@pytest.mark.parametrize(
    ("null", "stable", "canary", "a_look"),
    [
        (ERRORS, 0.001, 0.001, (400, 4)),  # 1 % of the users, no worse
        (ERRORS, 0.002, 0.007, (60, 20)),  # at the very edge of what is allowed
        (Null(1.0, 0.0), 0.1, 0.1, (40, 10)),  # nothing allowed
        (CLICKS, 0.9, 0.905, (40, 40)),
        (Null(0.0, 0.02), 0.5, 0.02, (0, 30)),
    ],
)
def test_false_alarms_stay_below_what_is_stated_however_often_one_looks(
    null: Null, stable: float, canary: float, a_look: tuple[float, float]
) -> None:
    rng, runs, most = np.random.default_rng(7), 150, 50
    found = [watch(rng, null, stable, canary, most, a_look) for _ in range(runs)]
    for place, false_alarms in enumerate((0.05, 0.01)):
        alarms = sum(looks[place] <= most for looks in found)
        three_deviations = 3 * math.sqrt(runs * false_alarms * (1 - false_alarms))
        assert alarms <= runs * false_alarms + three_deviations


def test_a_stall_of_both_tracks_is_no_fault_of_the_canary() -> None:
    """Stable's share may be another one in every block: it is compared with the canary's of the same moment."""
    rng, runs = np.random.default_rng(8), 100
    alarms = 0
    for _ in range(runs):
        test = SequentialTest(Null(1.0, 0.01))
        for _ in range(40):
            share = 0.5 if rng.random() < 0.1 else 0.005
            stable, canary = rng.binomial((90, 30), share)
            test = test.seen(Counts(90, int(stable), 30, int(canary)))
        alarms += test.rejects(0.01)
    assert alarms <= 0.01 * runs + 5


@pytest.mark.parametrize(
    ("null", "stable", "canary", "outcomes"),
    [
        (ERRORS, 0.001, 0.05, 1_000),
        (ERRORS, 0.001, 0.5, 60),
        (Null(1.0, 0.01), 0.005, 0.10, 500),  # a tenth of the calls slower than stable's p99
        (Null(1.0, 0.01), 0.005, 0.9, 60),
        (CLICKS, 0.9, 0.97, 1_000),  # 3 clicks where there were 10
    ],
)
def test_harm_is_found_within_the_stated_sample(null: Null, stable: float, canary: float, outcomes: int) -> None:
    """In nine of ten canaries, with three times as much on stable, at the false alarms of one test of fourteen."""
    rng, runs, looks = np.random.default_rng(9), 40, 20
    found = 0
    for _ in range(runs):
        test = SequentialTest(null)
        for _ in range(looks):
            sizes = np.array([3 * outcomes // looks, outcomes // looks])
            bad = rng.binomial(sizes, [stable, canary])
            test = test.seen(Counts(int(sizes[0]), int(bad[0]), int(sizes[1]), int(bad[1])))
        found += test.rejects(0.01 / 14)
    assert found >= 0.9 * runs
