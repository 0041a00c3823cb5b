"""The formulas against known values, against one another, and against limits that must hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.capacity.queueing import (
    erlang_b,
    erlang_c,
    late,
    mean_wait,
    response_quantile,
    service_quantile,
    wait_quantile,
)

loads = st.tuples(st.integers(1, 200), st.floats(0.01, 0.99)).map(lambda pair: (pair[0], pair[0] * pair[1]))
"""servers, offered load below them"""


def direct_erlang_c(load: float, servers: int) -> float:
    """As textbooks write it."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


def test_known_values() -> None:
    # Erlang's tables: 10 erlangs on 15 lines lose 3.65 %; 100 calls an hour of 3 minutes with 8 agents: 16.7 % wait
    assert erlang_b(10, 15) == pytest.approx(0.0365, abs=5e-5)
    assert erlang_c(5, 8) == pytest.approx(0.1673, abs=5e-5)
    assert erlang_c(0.8, 1) == pytest.approx(0.8)
    assert mean_wait(0.8, 1, 1) == pytest.approx(0.8 / 0.2)


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_recursion_is_the_sum(servers: int, busy: float) -> None:
    assert erlang_c(busy * servers, servers) == pytest.approx(direct_erlang_c(busy * servers, servers), rel=1e-9)


@given(st.floats(0.01, 0.99), st.floats(1e-4, 10), st.floats(0.5, 0.999))
def test_one_server_answers_exponentially(busy: float, service: float, share: float) -> None:
    rate = busy / service
    expected = -math.log(1 - share) * service / (1 - busy)
    assert response_quantile(rate, service, 1, share) == pytest.approx(expected, rel=1e-6)


@given(loads, st.floats(0, 20))
def test_late_is_wait_and_service_added_up(load: tuple[int, float], at: float) -> None:
    servers, offered = load
    waits, spare, steps = erlang_c(offered, servers), servers - offered, 2000
    width = at / steps
    # P(wait + service > t) = P(service > t) + ∫ service's density at s · P(wait > t − s) ds, by the middle of each step
    added = math.exp(-at) + sum(
        math.exp(-s) * waits * math.exp(-spare * (at - s)) * width for s in ((n + 0.5) * width for n in range(steps))
    )
    assert late(offered, 1.0, servers, at) == pytest.approx(added, abs=2e-3)


@given(loads)
def test_more_servers_and_less_work_are_never_slower(load: tuple[int, float]) -> None:
    servers, offered = load
    here = response_quantile(offered, 1.0, servers)
    assert response_quantile(offered, 1.0, servers + 1) <= here * (1 + 1e-9)
    assert response_quantile(offered * 0.9, 1.0, servers) <= here * (1 + 1e-9)
    assert service_quantile(1.0) <= here * (1 + 1e-9)
    assert erlang_c(offered, servers + 1) <= erlang_c(offered, servers)


@given(loads)
def test_quantiles_of_the_wait(load: tuple[int, float]) -> None:
    servers, offered = load
    waits = wait_quantile(offered, 1.0, servers)
    above = erlang_c(offered, servers) * math.exp(-(servers - offered) * waits)
    assert above <= 0.01 + 1e-9
    assert waits == 0 or above == pytest.approx(0.01)


@pytest.mark.parametrize("busy", [0.9, 0.998, 0.99999])
def test_nearly_too_much_work_can_be_told(busy: float) -> None:
    slow = response_quantile(3 * busy, 1.0, 3)
    assert slow == pytest.approx(-math.log(0.01) / (3 - 3 * busy), rel=0.1)


def test_too_much_work_never_ends() -> None:
    assert erlang_c(3, 3) == 1
    for of in (mean_wait, wait_quantile, response_quantile):
        assert of(3, 1, 3) == math.inf
    assert late(3, 1, 3, 100) == 1
