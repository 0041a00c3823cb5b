"""A circuit breaker: what fails again and again is not waited for. Knows neither calls nor clocks.

        `after` failures in a row          its time is over              answers
closed ──────────────────────────> open ──────────────────> one probe ──────────> closed
                                     ^                         │ fails: open for twice as long
                                     └─────────────────────────┘

Replicas have their own bookkeeping (balance.py), which never gives up the last of them. This is for the service as a
whole: where all of it hangs, each request would wait for the whole of its stage's time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_GROWTH_AT_MOST = 4


class Pass(Enum):
    """Leave to call."""

    CALL = "call"
    PROBE = "the one call that finds out"


class Verdict(Enum):
    """What a call told of the service."""

    GOOD = "it answered"
    BAD = "it did not"
    UNTOLD = "the call was given up for another reason"


@dataclass(frozen=True, slots=True)
class Breaking:
    """When to open, and for how long.

    after: failures in a row
    seconds: of the first time; twice as long after each probe that fails, up to 4 times
    """

    after: int = 5
    seconds: float = 0.5


class Breaker:
    """Of one service. Times are seconds of any clock that does not go back."""

    def __init__(self, breaking: Breaking | None = None) -> None:
        self._breaking = breaking or Breaking()
        self._in_a_row = 0
        self._failed_probes = 0
        self._until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for probes."""
        return self._until is not None

    def take(self, now: float) -> Pass | None:
        """Leave for one call, to be followed by `done`; None: do without."""
        if self._until is None:
            return Pass.CALL
        if now < self._until or self._probing:
            return None
        self._probing = True
        return Pass.PROBE

    def done(self, leave: Pass, verdict: Verdict, now: float) -> bool:
        """The call is over; → whether the breaker has opened or closed for it."""
        if leave is Pass.PROBE:
            return self._probed(verdict, now)
        if self._until is not None or verdict is Verdict.UNTOLD:
            return False  # begun before it opened: it fails, or succeeds, with what is known already
        if verdict is Verdict.GOOD:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < self._breaking.after:
            return False
        self._until = now + self._breaking.seconds
        return True

    def _probed(self, verdict: Verdict, now: float) -> bool:
        self._probing = False
        if verdict is Verdict.GOOD:
            self._until, self._in_a_row, self._failed_probes = None, 0, 0
            return True
        if verdict is Verdict.BAD:
            self._failed_probes += 1
            self._until = now + self._breaking.seconds * min(2.0 ** min(self._failed_probes, 10), _GROWTH_AT_MOST)
        return False
