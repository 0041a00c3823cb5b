"""The loop that leads a canary from its first users to all of them, or back.

It holds nothing that is not in the store: the canary's state, and the evidence so far. A judge that dies is followed by
another that goes on where it stopped; meanwhile the canary keeps its share.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from cascade.canary import record as records
from cascade.canary.clicks import ClickSource
from cascade.canary.errors import JudgeRuns, NoEvidence
from cascade.canary.evalues import Counts
from cascade.canary.outcomes import Outcomes
from cascade.canary.policy import Policy
from cascade.canary.record import Record
from cascade.online.errors import OnlineStoreDown
from cascade.store import canary as canaries
from cascade.store.canary import Canary
from cascade.store.errors import NoCanary
from cascade.store.model_store import ModelStore

End = Literal["promoted", "aborted", "held"]
Verdict = Literal["worse", "well", "too little", "open"]

_MISSED_LOOKS = 3
"""Looks after which a judge that has not written any is gone."""


class OutcomeSource(Protocol):
    """Where calls and lists of both tracks are counted."""

    def look(self) -> tuple[Outcomes, Outcomes]:
        """Stable's and the canary's since the last look. Raises NoEvidence."""


@dataclass(frozen=True)
class Ending:
    """How it ended, in words; `held`: at its share, until somebody decides."""

    state: End
    reason: str
    canary: Canary
    record: Record


class Judge:
    """Of one service's canary.

    tell: called after each change of the canary's share, so that who can be told need not find it out
    report: called after each look
    """

    def __init__(
        self,
        store: ModelStore,
        service: str,
        policy: Policy,
        outcomes: OutcomeSource,
        clicks: ClickSource,
        *,
        tell: Callable[[], object] = lambda: None,
        report: Callable[[Canary, Record], None] = lambda canary, record: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._service = service
        self._policy = policy
        self._outcomes = outcomes
        self._clicks = clicks
        self._tell = tell
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._id = uuid.uuid4().hex
        self._mine = False

    def run(self) -> Ending:
        """Look, and act, until it has ended.

        Raises:
            NoCanary: none runs
            JudgeRuns: another judge watches it
        """
        self._take_over()
        while True:
            ending = self.look()
            if ending is not None:
                return ending
            self._sleep(self._policy.look_s)

    def look(self) -> Ending | None:
        """Look once, and act on it; None while the canary goes on."""
        canary = canaries.read(self._store, self._service)
        record = records.read(self._store, self._service)
        known = record if canary is not None and record is not None and record.is_of(canary) else None
        if canary is None or (not canary.runs and known is None):
            raise NoCanary(f"no canary of {self._service!r} runs; start one")
        if known is not None and not canary.runs:
            return self._ended_by_others(canary, known)
        if self._mine and known is not None and known.judge != self._id:
            raise JudgeRuns(f"another judge has taken over the canary of {self._service!r}; this one leaves it")
        self._mine = True
        record = self._counted(canary, known)
        records.write(self._store, self._service, record)
        self._report(canary, record)
        try:
            return self._act(canary, record)
        except NoCanary:  # somebody ended it a moment ago; the next look tells how
            return None

    def _take_over(self) -> None:
        """Wait until the judge before, if one was at work lately, is surely gone."""
        before: float | None = None
        while True:
            record = records.read(self._store, self._service)
            canary = canaries.read(self._store, self._service)
            if record is None or canary is None or not record.is_of(canary) or not canary.runs or record.verdict:
                return
            if self._clock() - record.seen > _MISSED_LOOKS * self._policy.look_s:
                return
            if before is not None and record.seen != before:
                raise JudgeRuns(
                    f"the canary of {self._service!r} has a judge already, who looked at it "
                    f"{max(self._clock() - record.seen, 0):.0f} s ago; `cascade canary status {self._service}` shows it"
                )
            before = record.seen
            self._sleep(self._policy.look_s / 2)

    def _counted(self, canary: Canary, known: Record | None) -> Record:
        """The record with what has happened since the last look. What cannot be read now is read later."""
        now = self._clock()
        if known is None or (known.step, known.percent) != (canary.step, canary.percent):
            known = records.begun(canary, self._id, now, self._policy, known)
        outcomes, clicks, troubles = (Outcomes(), Outcomes()), Counts(), []
        cursor = known.cursor
        try:
            outcomes = self._outcomes.look()
        except NoEvidence as error:
            troubles.append(str(error))
        try:
            clicked = self._clicks.since(cursor, canary.version, canary.step)
            cursor, clicks = clicked.cursor, clicked.counts
        except OnlineStoreDown as error:
            troubles.append(str(error))
        record = records.seen(known, outcomes, clicks, self._policy, now)
        return replace(record, judge=self._id, cursor=cursor, trouble="; ".join(troubles), verdict="")

    def _act(self, canary: Canary, record: Record) -> Ending | None:
        now = self._clock()
        verdict, why = judged(record, self._policy, now)
        if verdict == "worse":
            return self._abort(record, why)
        if verdict == "too little":
            return self._abort(record, why) if self._policy.at_limit == "abort" else self._hold(canary, record, why)
        if verdict == "well":
            following = self._policy.after(canary.percent)
            if following is None:
                return self._promote(record)
            canaries.advance(self._store, self._service, following, self._clock)
            self._tell()
        return None

    def _abort(self, record: Record, why: str) -> Ending:
        canary = canaries.abort(self._store, self._service, why, self._clock)
        self._tell()
        return self._ending("aborted", canary.reason, canary, record)

    def _promote(self, record: Record) -> Ending:
        canaries.promote(self._store, self._service, self._clock)
        self._tell()
        canary = canaries.read(self._store, self._service)
        if canary is None:
            raise NoCanary(f"the canary of {self._service!r} has vanished")
        shares = ", ".join(f"{step:g} %" for step in self._policy.steps)
        return self._ending("promoted", f"no signal found it worse at {shares}", canary, record)

    def _hold(self, canary: Canary, record: Record, why: str) -> Ending:
        return self._ending("held", f"{why}; it keeps {canary.percent:g} % of the users", canary, record)

    def _ended_by_others(self, canary: Canary, record: Record) -> Ending:
        state: End = "promoted" if canary.state == "promoted" else "aborted"
        return Ending(state, record.verdict or canary.reason or "promoted by hand", canary, record)

    def _ending(self, state: End, reason: str, canary: Canary, record: Record) -> Ending:
        record = replace(record, verdict=reason)
        records.write(self._store, self._service, record)
        return Ending(state, reason, canary, record)


def judged(record: Record, policy: Policy, now: float) -> tuple[Verdict, str]:
    """What the evidence says at a moment, and why."""
    for signal, test in record.tests.items():
        if test.total.canary >= policy.min_alarm and test.rejects(policy.a_test):
            return (
                "worse",
                f"{record.sentence(signal)}; a false alarm has a chance of at most {policy.false_alarms:.2%}",
            )
    missing = lacking(record, policy)
    for_s = now - record.since
    if not missing and for_s >= policy.pause_s:
        return "well", "not found worse"
    if missing and for_s >= policy.limit_s:
        return "too little", f"too little evidence after {for_s:,.0f} s at {record.percent:g} %: {'; '.join(missing)}"
    return "open", "; ".join(missing) or f"{policy.pause_s - for_s:,.0f} s of the pause are left"


def lacking(record: Record, policy: Policy) -> list[str]:
    """What the step still needs; empty where it has enough."""
    missing = []
    calls = record.counts("errors").canary
    if calls < policy.min_calls:
        missing.append(f"{calls:,.0f} of {policy.min_calls:,} calls to the canary")
        if record.not_loaded:
            missing.append(f"{record.not_loaded:,.0f} calls met a replica that did not hold it")
    if policy.is_last_compared(record.percent):
        users = record.counts("clicks")
        for track, count in (("the canary", users.canary), ("stable", users.stable)):
            if count < policy.min_users:
                missing.append(f"{count:,.0f} of {policy.min_users:,} users shown a list of {track}")
    if missing and record.trouble:
        missing.append(record.trouble)
    return missing
