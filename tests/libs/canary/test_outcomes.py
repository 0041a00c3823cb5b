"""From counters to what happened between two looks, over replicas that come, go and begin anew."""

from __future__ import annotations

import pytest

from cascade.canary.outcomes import Increments, Outcomes, Page, added, bound_beyond, growth_of, quantile

BY = {"service": "ranker", "version": "v"}


def page(ok: float, errors: float = 0, late: float = 0, started: float | None = None, **more: float) -> Page:
    """Of the canary's calls; stable has ten times as many that are fine."""
    samples = {}
    for track, factor in (("canary", 1), ("stable", 10)):
        for outcome, count in (("ok", ok), ("error", errors), ("late", late)):
            labels = {**BY, "track": track, "outcome": outcome}
            samples["cascade_track_requests_total", frozenset(labels.items())] = factor * count
        for name, count in more.items():
            samples[f"cascade_track_{name}_total", frozenset({**BY, "track": track}.items())] = factor * count
    other = {**BY, "service": "retrieval", "track": "canary", "outcome": "error"}
    samples["cascade_track_requests_total", frozenset(other.items())] = 1000 * ok
    return Page(samples, started)


class Gateways:
    """Pages of replicas, as a test sets them, and a clock."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.now = 100.0

    def __call__(self) -> dict[str, Page]:
        return dict(self.pages)

    def increments(self) -> Increments:
        return Increments(self, "ranker", lambda: self.now)


@pytest.fixture
def gateways() -> Gateways:
    return Gateways()


def test_what_was_counted_before_the_first_look_does_not_count(gateways: Gateways) -> None:
    gateways.pages = {"a": page(500, 3), "b": page(100)}
    counting = gateways.increments()
    assert counting.look() == (Outcomes(), Outcomes())
    gateways.pages = {"a": page(510, 5, 1, answers=12, degraded=2), "b": page(101)}
    stable, canary = counting.look()
    assert (canary.calls, canary.failed, canary.lists, canary.degraded) == (14, 3, 12, 2)
    assert (stable.calls, stable.failed, stable.lists, stable.degraded) == (140, 30, 120, 20)
    assert counting.look() == (Outcomes(), Outcomes())


def test_a_replica_that_began_anew_counts_from_zero(gateways: Gateways) -> None:
    gateways.pages = {"a": page(500)}
    counting = gateways.increments()
    counting.look()
    gateways.pages = {"a": page(7)}
    assert counting.look()[1].calls == 7


def test_a_replica_met_later_counts_whole_if_it_began_after_the_last_look(gateways: Gateways) -> None:
    gateways.pages = {"a": page(1)}
    counting = gateways.increments()
    counting.look()
    gateways.pages = {"a": page(1), "new": page(5, started=101.0), "old": page(900, started=50.0), "?": page(900)}
    gateways.now = 110.0
    assert counting.look()[1].calls == 5
    gateways.pages["old"] = page(901, started=50.0)
    assert counting.look()[1].calls == 1


def test_a_replica_that_did_not_answer_is_caught_up_with(gateways: Gateways) -> None:
    gateways.pages = {"a": page(1), "b": page(1)}
    counting = gateways.increments()
    counting.look()
    gateways.pages = {"a": page(2)}
    assert counting.look()[1].calls == 1
    gateways.pages = {"a": page(2), "b": page(11)}
    assert counting.look()[1].calls == 10


def test_lists_are_never_more_often_degraded_than_counted(gateways: Gateways) -> None:
    gateways.pages = {"a": page(0, answers=0, degraded=0)}
    counting = gateways.increments()
    counting.look()
    gateways.pages = {"a": page(0, answers=3, degraded=4)}
    assert counting.look()[1].degraded == 3


def test_growth() -> None:
    key = ("x", frozenset[tuple[str, str]]())
    assert growth_of({}, {key: 3.0}) == {key: 3.0}
    assert growth_of({key: 2.0}, {key: 3.0}) == {key: 1.0}
    assert growth_of({key: 2.0}, {key: 1.0}) == {key: 1.0}
    assert growth_of({key: 2.0}, {}) == {}


def test_p99_and_the_bound_beyond_it() -> None:
    seconds = {"0.005": 0.0, "0.01": 90.0, "0.025": 98.0, "0.05": 100.0, "+Inf": 100.0}
    assert quantile(seconds, 0.45) == pytest.approx(0.0075)
    p99 = quantile(seconds, 0.99)
    assert p99 == pytest.approx(0.0375)  # half of the way from 25 to 50 ms
    assert bound_beyond(seconds, 1.25 * p99) == "0.05"
    assert bound_beyond(seconds, 0.051) is None
    assert quantile({"0.05": 1.0, "+Inf": 100.0}, 0.99) is None
    assert quantile({}, 0.99) is None
    assert Outcomes(seconds=seconds).slower_than("0.025") == (100.0, 2.0)
    assert added({"0.05": 1.0}, {"0.05": 2.0, "+Inf": 3.0}) == {"0.05": 3.0, "+Inf": 3.0}
