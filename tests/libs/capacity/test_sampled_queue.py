"""The simulated queue against the formulas of M/M/c, and against itself when every request is followed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.capacity.queueing import erlang_c, mean_wait, response_quantile, wait_quantile
from cascade.capacity.sampled_queue import Moment, SampledQueue

SERVICE = 0.002


def queue(servers: int, seed: int = 7, longest: float = 100.0) -> SampledQueue:
    return SampledQueue(SERVICE, servers, longest, np.random.default_rng(seed))


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.5), (1, 0.8), (4, 0.7), (12, 0.68), (20, 0.9)])
def test_waits_are_those_of_the_formula(servers: int, busy: float) -> None:
    rate = busy * servers / SERVICE
    seen = queue(servers).step(rate, 1.0, 400_000)
    waits = seen.waits[20_000:]
    assert seen.refused == 0
    assert (waits > 0).mean() == pytest.approx(erlang_c(rate * SERVICE, servers), rel=0.05)
    assert waits.mean() == pytest.approx(mean_wait(rate, SERVICE, servers), rel=0.1)
    assert np.quantile(waits, 0.99) == pytest.approx(wait_quantile(rate, SERVICE, servers), rel=0.12)
    took = waits + seen.services[20_000:]
    assert np.quantile(took, 0.99) == pytest.approx(response_quantile(rate, SERVICE, servers), rel=0.08)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 16), st.floats(0.2, 0.85), st.integers(0, 2**31))
def test_a_moment_of_each_step_sees_the_same_queue(servers: int, busy: float, seed: int) -> None:
    """Followed 60 at a time over steps that are far longer, the queue is as if it had never been left."""
    rate, sampled = busy * servers / SERVICE, queue(servers, seed)
    moments = [sampled.step(rate, 5.0, 60) for _ in range(1500)]
    waits = np.concatenate([one.waits for one in moments[100:]])
    assert (waits > 0).mean() == pytest.approx(erlang_c(rate * SERVICE, servers), rel=0.2, abs=0.01)
    assert waits.mean() == pytest.approx(mean_wait(rate, SERVICE, servers), rel=0.35, abs=2e-5)


def test_overload_fills_the_queue_as_when_all_are_followed() -> None:
    servers, longest = 5, 0.5
    rate = 1.2 * servers / SERVICE
    every, sampled = queue(servers, longest=longest), queue(servers, longest=longest)
    followed = [every.step(rate, 0.5, int(rate * 0.5)).refused for _ in range(12)]
    some = [sampled.step(rate, 0.5, 60).refused for _ in range(12)]
    # 0.2 s of backlog a second: full after 2.5 s, then a sixth is refused
    assert every.backlog == pytest.approx(longest, abs=0.02)
    assert sampled.backlog == pytest.approx(longest, abs=0.02)
    assert sum(followed[:4]) == sum(some[:4]) == 0
    assert np.mean(followed[7:]) == pytest.approx(1 / 6, abs=0.03)
    assert np.mean(some[7:]) == pytest.approx(1 / 6, abs=0.03)


def test_a_backlog_is_worked_off() -> None:
    late = queue(4, longest=10.0)
    for _ in range(10):
        late.step(1.5 * 4 / SERVICE, 1.0, 60)
    assert late.backlog == pytest.approx(5.0, abs=0.3)
    late.step(0.5 * 4 / SERVICE, 4.0, 60)
    assert late.backlog == pytest.approx(3.0, abs=0.3)
    for _ in range(5):
        late.step(0.5 * 4 / SERVICE, 4.0, 60)
    assert late.backlog < 0.05


def test_servers_come_and_go() -> None:
    some = queue(2)
    some.step(3 / SERVICE, 1.0, 60)
    busy = some.backlog
    assert busy > 0.1
    some.resize(5)
    assert (some.servers, some.backlog) == (5, 0.0)
    some.resize(1)
    assert some.servers == 1
    some.resize(0)
    seen = some.step(100, 1.0, 10)
    assert (seen.refused, np.isnan(seen.waits).all()) == (1.0, True)


def test_same_seed_same_queue_and_nothing_arrives_at_no_rate() -> None:
    first, second = (queue(3, seed=5).step(900, 5.0, 50) for _ in range(2))
    assert isinstance(first, Moment)
    assert first.waits.tolist() == second.waits.tolist()
    assert len(queue(3).step(0, 5.0, 50).waits) == 0
