"""The autoscaler against the answers of Kubernetes' documentation, and what holds whatever the metric says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.capacity.autoscaler import SYNC_S, Autoscaler, Reading, desired_replicas
from cascade.capacity.cluster import Cluster, Policy, Rules

UP = Rules(
    stabilisation=0,
    select="Max",
    policies=(Policy(type="Percent", value=100, period=15), Policy(type="Pods", value=4, period=15)),
)
DOWN = Rules(stabilisation=300, select="Max", policies=(Policy(type="Percent", value=100, period=15),))
"""the defaults of Kubernetes"""


def asks(current: int, value: float, target: float, unready: int = 0, missing: int = 0, **more: float) -> int | None:
    with_values = current - unready - missing
    return desired_replicas(current, Reading([value] * with_values, target, unready, missing, **more))


@pytest.mark.parametrize(
    ("current", "value", "target", "expected"),
    [
        (4, 200, 100, 8),  # "if the current metric value is 200m, and the desired value is 100m": doubled
        (4, 50, 100, 2),  # 50m: halved
        (50, 90, 75, 60),  # the page on tolerance: 50 × (90 / 75) = 60
        (10, 109, 100, 10),  # within the tolerance of 0.1
        (10, 91, 100, 10),
        (10, 111, 100, 12),  # outside of it, rounded up
        (10, 89, 100, 9),
        (3, 100, 100, 3),
    ],
)
def test_ratio_of_the_page(current: int, value: float, target: float, expected: int) -> None:
    assert asks(current, value, target) == expected


def test_pods_that_are_not_ready_dampen_a_scale_up() -> None:
    assert asks(4, 200, 100) == 8
    assert asks(6, 200, 100, unready=2) == 8  # 4 pods of 200, 2 of 0: a mean of 133 over 6
    assert asks(4, 180, 100, unready=2) == 4  # turned round, below the target: nothing
    assert asks(4, 50, 100, unready=2) == 1  # unready pods count only on the way up


def test_missing_metrics_dampen_either_way() -> None:
    assert asks(4, 200, 100, missing=2) == 4  # with two at 0 the mean is the target
    assert asks(6, 300, 100, missing=2) == 12  # 4 of 300 and 2 of 0: 200 over 6
    assert asks(4, 50, 100, missing=2) == 3  # on the way down they use the target: 75 over 4
    assert asks(4, 0.35, 0.7, missing=2, full=1.0) == 4  # processor: the whole request, 0.675 over 4 is near enough
    assert desired_replicas(4, Reading([], 100, missing=4)) is None


def steps(scaler: Autoscaler, current: int, value: float, target: float, seconds: float, start: float = 0) -> list[int]:
    """Replicas after each sync; the metric per pod shrinks as they grow, if its sum is given as value × pods."""
    found, now = [], start
    while now < start + seconds:
        current = scaler.replicas(now, current, [Reading([value] * current, target)])
        found.append(current)
        now += SYNC_S
    return found


def test_policies_of_the_page_scale_80_down_by_8_and_8() -> None:
    rules = Rules(
        stabilisation=0,
        select="Max",
        policies=(Policy(type="Pods", value=4, period=60), Policy(type="Percent", value=10, period=60)),
    )
    scaler, current, found = Autoscaler(1, 100, UP, rules), 80, []
    for minute in range(12):
        current = scaler.replicas(60.0 * minute, current, [Reading([0.001] * current, 1.0)])
        found.append(current)
    # "during the first step 8 replicas will be reduced. In the next iteration … 7.2 but the number is rounded up to 8";
    # "when the number of replicas falls below 40 the first policy is applied and 4 replicas will be reduced at a time"
    assert found[:2] == [72, 64]
    below = [n for n in found if n < 40]
    assert [a - b for a, b in pairwise(below)] == [4] * (len(below) - 1)


def test_policies_hold_over_their_period_not_over_a_sync() -> None:
    rules = Rules(stabilisation=0, select="Max", policies=(Policy(type="Pods", value=4, period=60),))
    found = steps(Autoscaler(1, 100, UP, rules), 40, 0.001, 1.0, 120)
    assert found == [36, 36, 36, 36, 32, 32, 32, 32]


def test_default_scale_up_doubles_or_adds_four() -> None:
    assert steps(Autoscaler(1, 100, UP, DOWN), 1, 50.0, 1.0, 60) == [5, 10, 20, 40]


def test_min_selects_the_smaller_change() -> None:
    base = Cluster.load()  # a quarter, and at most 4 pods a minute
    found = steps(Autoscaler(2, 60, base.scale_up, base.scale_down), 40, 0.001, 1.0, 300 + 180, start=1000)
    assert found[:20] == [40] * 20  # five minutes of stabilisation, the first recommendation being what was there
    assert found[20:24] == [36] * 4
    assert found[24:28] == [32] * 4
    few = Autoscaler(2, 60, base.scale_up, base.scale_down)
    assert steps(few, 8, 0.001, 1.0, 315)[-1] == 6  # a quarter of 8 is less than 4


def test_disabled_direction() -> None:
    off = Rules(stabilisation=0, select="Disabled", policies=())
    assert steps(Autoscaler(1, 100, UP, off), 10, 0.001, 1.0, 30) == [10, 10]


def test_stabilisation_takes_the_highest_of_the_window() -> None:
    scaler = Autoscaler(1, 100, UP, DOWN)
    assert scaler.replicas(0, 10, [Reading([2.0] * 10, 1.0)]) == 20
    assert scaler.replicas(100, 20, [Reading([0.5] * 20, 1.0)]) == 20
    assert scaler.replicas(200, 20, [Reading([0.25] * 20, 1.0)]) == 20
    assert scaler.replicas(305, 20, [Reading([0.25] * 20, 1.0)]) == 10  # 20 of the first sync has left, 10 has not
    assert scaler.replicas(405, 10, [Reading([0.5] * 10, 1.0)]) == 5


def test_largest_of_several_metrics_and_none_that_is_missing() -> None:
    scaler = Autoscaler(1, 100, UP, Rules(stabilisation=0, select="Max", policies=DOWN.policies))
    assert scaler.replicas(0, 10, [Reading([0.5] * 10, 1.0), Reading([1.5] * 10, 1.0)]) == 15
    assert scaler.replicas(15, 10, [Reading([0.5] * 10, 1.0), Reading([], 1.0, missing=10)]) == 10
    assert scaler.replicas(30, 10, [Reading([1.5] * 10, 1.0), Reading([], 1.0, missing=10)]) == 15


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 30), st.integers(1, 30))
def test_bounds_hold_and_a_higher_metric_asks_for_no_less(
    values: list[float], smallest: int, more: int, current: int
) -> None:
    largest = smallest + more
    scaler = Autoscaler(smallest, largest, UP, DOWN)
    current = min(max(current, smallest), largest)
    for place, value in enumerate(values):
        current = scaler.replicas(15.0 * place, current, [Reading([value] * current, 1.0)])
        assert smallest <= current <= largest
        now, higher = (desired_replicas(current, Reading([v] * current, 1.0)) for v in (value, value * 1.5 + 0.1))
        assert now is not None
        assert higher is not None
        assert higher >= now
