"""What the judge knows of a canary, kept beside it in the model store, so that another judge can go on from there.

Evidence that was lost with a judge would be gathered anew, and each new beginning would be one more chance of a false
alarm; so it is written at every look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from cascade.canary.evalues import Counts, SequentialTest
from cascade.canary.outcomes import Outcomes, added, bound_beyond, quantile
from cascade.canary.policy import Policy
from cascade.canary.signals import SignalName, nulls_of, sentence
from cascade.store.canary import Canary
from cascade.store.model_store import ModelStore

_NOTE = "canary-evidence.json"
_MOST_LOOKS = 200


@dataclass(frozen=True)
class Look:
    """One look. at: UTC seconds; evidence: logarithm by signal; counts: of the step so far, by signal."""

    at: float
    percent: float
    evidence: Mapping[SignalName, float]
    counts: Mapping[SignalName, Counts]


@dataclass(frozen=True)
class Record:
    """Everything so far.

    version, started: of the canary that it is about
    judge, seen: who looked last, and when (UTC seconds)
    percent, step, since: the step that the tests are about, and when it began
    tests: by signal
    slow: upper bound of a bucket, in seconds; calls beyond it count as slow at the next look. None: not known yet
    stable_seconds, canary_seconds: buckets of the step
    not_loaded: calls for the canary that met a replica without it
    cursor: where the impressions go on
    before: what the step before counted
    looks: at most `_MOST_LOOKS`; of more, every second one stays
    trouble: why the last look saw nothing; empty where it saw
    verdict: how it ended; empty while it is open
    """

    version: str
    started: float
    judge: str
    seen: float
    percent: float
    step: int
    since: float
    tests: Mapping[SignalName, SequentialTest]
    slow: str | None = None
    stable_seconds: Mapping[str, float] = field(default_factory=dict)
    canary_seconds: Mapping[str, float] = field(default_factory=dict)
    not_loaded: float = 0.0
    cursor: str | None = None
    before: Mapping[SignalName, Counts] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    trouble: str = ""
    verdict: str = ""

    def is_of(self, canary: Canary) -> bool:
        """Whether it is about this canary, rather than one before."""
        return (self.version, self.started) == (canary.version, canary.started)

    def counts(self, signal: SignalName) -> Counts:
        """Of the step so far."""
        test = self.tests.get(signal)
        return Counts() if test is None else test.total

    def sentence(self, signal: SignalName) -> str:
        """What was counted of a signal, for a person."""
        bound = None if self.slow is None else float(self.slow)
        return sentence(signal, self.counts(signal), self.tests[signal].null, bound)

    def p99(self) -> tuple[float | None, float | None]:
        """Seconds of stable and canary in this step; None where there is too little."""
        return quantile(self.stable_seconds, 0.99), quantile(self.canary_seconds, 0.99)


_RECORD = TypeAdapter(Record)


def read(store: ModelStore, service: str) -> Record | None:
    """The service's last record; None where there is none, or one that this code cannot read."""
    content = store.note(service, _NOTE)
    if content is None:
        return None
    try:
        return _RECORD.validate_json(content)
    except ValidationError:  # of another version of this code; evidence is gathered anew
        return None


def write(store: ModelStore, service: str, record: Record) -> None:
    """Replace it, whole or not at all."""
    store.set_note(service, _NOTE, _RECORD.dump_json(record))


def begun(canary: Canary, judge: str, now: float, policy: Policy, before: Record | None) -> Record:
    """A record at the beginning of a canary's step. before: of the step before, where there was one."""
    totals = {signal: test.total for signal, test in before.tests.items()} if before else {}
    nulls = nulls_of(canary.percent, totals, policy.allowed)
    return Record(
        version=canary.version,
        started=canary.started,
        judge=judge,
        seen=now,
        percent=canary.percent,
        step=canary.step,
        since=canary.changed,
        tests={signal: SequentialTest(nulls[signal]) for signal in policy.signals(canary.percent)},
        cursor=before.cursor if before else None,
        before=totals,
        looks=before.looks if before else (),
    )


def seen(record: Record, outcomes: tuple[Outcomes, Outcomes], clicks: Counts, policy: Policy, now: float) -> Record:
    """After one more look. outcomes: of stable and canary; clicks: users, bad being those who did not click."""
    stable, canary = outcomes
    blocks: dict[SignalName, Counts] = {
        "errors": Counts(stable.calls, stable.failed, canary.calls, canary.failed),
        "degraded": Counts(stable.lists, stable.degraded, canary.lists, canary.degraded),
        "clicks": clicks,
    }
    if record.slow is not None:
        (timed, late), (canary_timed, canary_late) = stable.slower_than(record.slow), canary.slower_than(record.slow)
        blocks["p99"] = Counts(timed, late, canary_timed, canary_late)
    tests = {signal: test.seen(blocks[signal]) if signal in blocks else test for signal, test in record.tests.items()}
    stable_seconds = added(record.stable_seconds, stable.seconds)
    # Only now, from what has been seen: the next block is held against a bound that it had no part in.
    p99 = quantile(stable_seconds, 0.99)
    slow = None if p99 is None else bound_beyond(stable_seconds, policy.allowed.slow_factor * p99)
    look = Look(
        now,
        record.percent,
        {signal: test.log_evidence for signal, test in tests.items()},
        {signal: test.total for signal, test in tests.items()},
    )
    return replace(
        record,
        seen=now,
        tests=tests,
        slow=slow,
        stable_seconds=stable_seconds,
        canary_seconds=added(record.canary_seconds, canary.seconds),
        not_loaded=record.not_loaded + canary.not_loaded,
        looks=_thinned((*record.looks, look)),
        trouble="",
    )


def _thinned(looks: tuple[Look, ...]) -> tuple[Look, ...]:
    return looks if len(looks) <= _MOST_LOOKS else (*looks[:-1:2], looks[-1])
