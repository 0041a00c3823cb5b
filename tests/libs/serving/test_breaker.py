"""The breaker by itself: a clock that the test moves, and sequences that hypothesis draws."""

from __future__ import annotations

from hypothesis import given, strategies

from cascade.serving.breaker import Breaker, Breaking, Pass, Verdict

BAD, GOOD, UNTOLD = Verdict.BAD, Verdict.GOOD, Verdict.UNTOLD


def opened() -> Breaker:
    breaker = Breaker(Breaking(after=3, seconds=1.0))
    changes = [breaker.done(Pass.CALL, BAD, 10.0) for _ in range(3)]
    assert changes == [False, False, True]
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(Breaking(after=3))
    for verdict in (BAD, BAD, GOOD, BAD, BAD, UNTOLD):
        assert breaker.take(0.0) is Pass.CALL
        assert not breaker.done(Pass.CALL, verdict, 0.0)
    assert breaker.done(Pass.CALL, BAD, 0.0)
    assert breaker.take(0.0) is None


def test_one_probe_at_a_time_and_its_answer_closes_it() -> None:
    breaker = opened()
    assert breaker.take(10.9) is None
    assert breaker.take(11.0) is Pass.PROBE
    assert breaker.take(11.0) is None, "one finds out for all"
    assert breaker.done(Pass.PROBE, GOOD, 11.1)
    assert breaker.take(11.1) is Pass.CALL
    assert not breaker.done(Pass.CALL, BAD, 11.2), "it counts anew"


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_four_times() -> None:
    breaker, now, waits = opened(), 11.0, []
    for _ in range(4):
        assert breaker.take(now) is Pass.PROBE
        breaker.done(Pass.PROBE, BAD, now)
        later = now
        while breaker.take(later) is None:
            later += 0.5
        breaker.done(Pass.PROBE, UNTOLD, later)  # given up for another reason: the next one may try
        waits.append(later - now)
        now = later
    assert waits == [2.0, 4.0, 4.0, 4.0]


def test_calls_from_before_it_opened_change_nothing() -> None:
    breaker = opened()
    assert not breaker.done(Pass.CALL, BAD, 10.5)
    assert not breaker.done(Pass.CALL, GOOD, 10.5)
    assert breaker.is_open
    assert breaker.take(11.0) is Pass.PROBE, "their failures do not put the probe off"


@given(strategies.lists(strategies.tuples(strategies.sampled_from([BAD, GOOD, UNTOLD]), strategies.floats(0, 3))))
def test_whatever_happens_a_service_that_answers_again_is_asked_again(course: list[tuple[Verdict, float]]) -> None:
    breaker, now = Breaker(Breaking(after=2, seconds=0.5)), 0.0
    for verdict, passed in course:
        now += passed
        leave = breaker.take(now)
        assert leave is not None or breaker.is_open
        if leave is not None:
            breaker.done(leave, verdict, now)
    now += 2.0  # the longest that it stays open
    leave = breaker.take(now)
    assert leave is not None
    breaker.done(leave, GOOD, now)
    assert not breaker.is_open
