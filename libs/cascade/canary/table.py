"""The evidence as rows of text, for the command, for Dagster and for whoever prints a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cascade.canary.evalues import Counts
from cascade.canary.policy import Policy
from cascade.canary.record import Record
from cascade.canary.signals import SignalName

COLUMNS = ("signal", "canary", "stable", "allowed", "evidence")
_WHAT: dict[SignalName, str] = {
    "errors": "errors (calls)",
    "degraded": "degraded (lists)",
    "p99": "p99 (calls slower than {bound})",
    "clicks": "click-through (users)",
}


@dataclass(frozen=True)
class Row:
    """Of one signal. evidence: how far it is towards an alarm; 100 % is one."""

    signal: str
    canary: str
    stable: str
    allowed: str
    evidence: str

    def cells(self) -> tuple[str, ...]:
        """In the order of COLUMNS."""
        return self.signal, self.canary, self.stable, self.allowed, self.evidence


def rows(record: Record, policy: Policy) -> list[Row]:
    """One a signal of the step."""
    return [_row(signal, record, policy) for signal in record.tests]


def alarm_share(log_evidence: float, policy: Policy) -> float:
    """How far a logarithm of evidence is towards an alarm: 1 is one, below 0 it speaks for the canary."""
    return log_evidence / -math.log(policy.a_test)


def _row(signal: SignalName, record: Record, policy: Policy) -> Row:
    test = record.tests[signal]
    counts, null = test.total, test.null
    if signal == "clicks":
        counts = Counts(
            counts.stable, counts.stable - counts.stable_bad, counts.canary, counts.canary - counts.canary_bad
        )
        allowed = f"at least {null.slope:.0%} of stable's"
    else:
        allowed = f"{null.margin:.2%} more" if null.slope else f"at most {null.margin:.2%}"
    bound = "a bound not known yet" if record.slow is None else f"{1000 * float(record.slow):g} ms"
    canary, stable = _share(counts.canary_bad, counts.canary), _share(counts.stable_bad, counts.stable)
    if signal == "p99":
        of_stable, of_canary = record.p99()
        canary, stable = f"{canary}, p99 {_ms(of_canary)}", f"{stable}, p99 {_ms(of_stable)}"
    return Row(
        _WHAT[signal].format(bound=bound), canary, stable, allowed, f"{alarm_share(test.log_evidence, policy):.0%}"
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%} of {whole:,.0f}" if whole else "none"


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else f"{1000 * seconds:.1f} ms"
