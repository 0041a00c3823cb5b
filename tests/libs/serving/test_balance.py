"""The choice of a replica, as a machine of states without sockets or clocks."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cascade.serving.balance import SCANNED, Balance, Ejection, Outcome, Place

GOOD, UNREACHABLE, LATE, ERROR, UNTOLD = Outcome


def place(number):
    return Place("http://service:80", f"10.0.0.{number}")


def balance_of(count, seed=0, **ejection):
    balance = Balance(Ejection(**ejection), random.Random(seed))  # noqa: S311
    assert balance.update([place(number) for number in range(count)], lambda _: None) == []
    return balance


def one_call(balance, outcome, now=0.0, **options):
    replica = balance.take(now, **options)
    was_out = replica.until != 0.0
    balance.done(replica, outcome, now, was_out=was_out)
    return replica


def fail(balance, number, outcome, now=0.0):
    """Calls to all replicas at once, of which that of `number` fails."""
    taken = [balance.take(now) for _ in range(balance.known - balance.ejected)]
    changed = False
    for replica in taken:
        told = outcome if replica.place == place(number) else GOOD
        changed |= balance.done(replica, told, now)
    return changed


@given(st.integers(1, SCANNED), st.integers(1, 200), st.integers(0, 2**32))
def test_calls_at_once_are_spread_evenly(count, calls, seed):
    balance = balance_of(count, seed)
    loads = Counter(balance.take(0.0).place for _ in range(calls))
    assert sum(loads.values()) == calls
    assert max(loads.values()) - min(loads.get(place(number), 0) for number in range(count)) <= 1


@given(st.integers(SCANNED + 1, 80), st.integers(0, 2**32))
def test_of_many_the_better_of_two_is_nearly_as_even(count, seed):
    balance = balance_of(count, seed)
    loads = Counter(balance.take(0.0).place for _ in range(20 * count))
    assert max(loads.values()) <= 20 + 10  # one choice alone would give a replica of 80 more than that


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(0, 2**32))
def test_calls_one_after_another_go_to_all_alike(count, seed):
    balance = balance_of(count, seed)
    served = Counter(one_call(balance, GOOD).place for _ in range(200 * count))
    assert min(served[place(number)] for number in range(count)) > 100
    assert max(served.values()) < 300


def test_a_replica_that_is_slow_gets_less():
    balance = balance_of(3)
    slow = balance.take(0.0)
    for _ in range(30):
        assert one_call(balance, GOOD) is not slow


def test_without_replicas_there_is_no_choice():
    assert Balance().take(0.0) is None
    single = balance_of(1)
    assert single.take(0.0, besides=single.take(0.0)) is None


def test_an_unreachable_replica_is_ejected_at_once_and_returns_by_a_probe():
    balance = balance_of(2, seconds=1.0)
    assert fail(balance, 0, UNREACHABLE, 10.0)
    assert (balance.known, balance.ejected) == (2, 1)
    for now in (10.0, 10.5, 10.99):
        assert one_call(balance, GOOD, now, probe=True).place == place(1)
    assert one_call(balance, GOOD, 11.0).place == place(1), "a call that cannot be repeated is no probe"

    probe = balance.take(11.0, probe=True)
    assert probe.place == place(0)
    assert one_call(balance, GOOD, 11.0, probe=True).place == place(1), "one probe at a time"
    assert not balance.done(probe, UNREACHABLE, 11.1, was_out=True)
    assert one_call(balance, GOOD, 13.0, probe=True).place == place(1), "twice as long"
    probe = balance.take(13.1, probe=True)
    assert probe.place == place(0)
    balance.done(probe, UNTOLD, 13.1, was_out=True)
    probe = balance.take(13.1, probe=True)
    assert probe.place == place(0), "a probe given up tells nothing: the next call is one again"
    assert balance.done(probe, GOOD, 13.2, was_out=True)
    assert balance.ejected == 0


def test_the_time_out_grows_to_a_bound_and_good_conduct_makes_it_short_again():
    balance = balance_of(2, seconds=1.0)
    now, times = 0.0, []
    fail(balance, 0, UNREACHABLE, now)
    replica = balance._ejected[0]
    for _ in range(7):
        times.append(replica.until - now)
        now = replica.until
        assert one_call(balance, UNREACHABLE, now, probe=True) is replica
    assert times == [1, 2, 4, 8, 16, 16, 16]
    now = replica.until
    assert one_call(balance, GOOD, now, probe=True) is replica
    assert fail(balance, 0, UNREACHABLE, now + 1)
    assert replica.until - now > 15, "it is remembered"
    assert one_call(balance, GOOD, replica.until, probe=True) is replica
    now = replica.until + 100 + replica.returned
    assert fail(balance, 0, UNREACHABLE, now)
    assert replica.until == now + 1


@pytest.mark.parametrize("outcome", [LATE, ERROR])
def test_one_that_is_late_or_errs_in_a_row_is_ejected_if_others_do_better(outcome):
    balance = balance_of(3, after=3)
    assert [fail(balance, 1, outcome) for _ in range(3)] == [False, False, True]
    forgiven = balance_of(3, after=3)
    assert not any(fail(forgiven, 1, told) for told in (outcome, outcome, GOOD, outcome, outcome))


@pytest.mark.parametrize("outcome", [LATE, ERROR])
def test_what_all_suffer_from_is_no_replicas_fault(outcome):
    balance = balance_of(4, after=3)
    for _ in range(100):
        one_call(balance, outcome)
    assert balance.ejected == 0


def test_no_more_than_the_share_is_ejected_for_being_late():
    balance = balance_of(4, after=1, share=0.25)
    assert fail(balance, 0, LATE)
    assert not fail(balance, 1, LATE)
    assert fail(balance, 1, UNREACHABLE), "a call to it would be in vain whatever the others do"


def test_when_all_are_ejected_all_are_used_and_one_that_answers_returns():
    balance = balance_of(3)
    for number in range(3):
        fail(balance, number, UNREACHABLE)
    assert balance.ejected == 3
    assert len({balance.take(0.1).place for _ in range(3)}) == 3
    assert one_call(balance, GOOD, 0.2).until == 0.0
    assert balance.ejected == 2


def test_a_change_of_the_list_keeps_load_and_conduct():
    balance = balance_of(3)
    fail(balance, 0, UNREACHABLE)
    busy = next(replica for replica in iter(lambda: balance.take(0.0), None) if replica.place == place(1))
    gone = balance.update([place(0), place(1), place(1), place(7)], lambda _: None)
    assert [replica.place for replica in gone] == [place(2)]
    assert (balance.known, balance.ejected, busy.in_flight > 0) == (3, 1, True)
    assert balance.take(0.0).place == place(7)
    assert not balance.done(gone[0], UNREACHABLE, 0.0), "one that went is not ejected any more"
    assert balance.ejected == 1


class Conduct(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    SHARE = 0.5

    def __init__(self):
        super().__init__()
        self.balance = Balance(Ejection(1.0, 2, self.SHARE), random.Random(0))  # noqa: S311
        self.calls = []
        self.now = 0.0
        self.soft = 0

    @rule(numbers=st.sets(st.integers(0, 5), min_size=1))
    def list_changes(self, numbers):
        self.balance.update([place(number) for number in sorted(numbers)], lambda _: None)

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(probe=st.booleans())
    def call_begins(self, probe):
        replica = self.balance.take(self.now, probe=probe)
        assert (replica is None) == (self.balance.known == 0)
        if replica is None:
            return
        in_rotation = replica.until == 0.0
        nobody_is = self.balance.known == self.balance.ejected
        assert in_rotation or nobody_is or (probe and self.now >= replica.until)
        self.calls.append((replica, not in_rotation))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def call_ends(self, data, outcome):
        replica, was_out = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        before = self.balance.ejected
        self.balance.done(replica, outcome, self.now, was_out=was_out)
        if outcome in (LATE, ERROR) and self.balance.ejected > before:
            assert self.balance.ejected <= self.SHARE * self.balance.known

    @invariant()
    def loads_are_those_of_the_calls(self):
        expected = Counter(id(replica) for replica, _ in self.calls)
        for replica in (*self.balance._open, *self.balance._ejected):
            assert replica.in_flight == expected[id(replica)]

    @invariant()
    def in_rotation_or_ejected(self):
        assert all(replica.until == 0.0 for replica in self.balance._open)
        assert all(replica.until > 0.0 for replica in self.balance._ejected)


Conduct.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConduct = Conduct.TestCase
