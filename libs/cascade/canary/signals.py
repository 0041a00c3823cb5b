"""What a canary is judged by: four shares of bad outcomes, each with what it may be worse by.

| signal | outcomes | bad | the canary is worse if |
| --- | --- | --- | --- |
| errors | calls to the service | failed or late | its share is above stable's + `errors` |
| degraded | lists, by the track of their user | made without a stage | above stable's + `degraded` |
| p99 | calls to the service | slower than stable's p99, `slow_factor` times | above stable's + `slow` |
| clicks | users, by the first list of each in the step | no click on it | clicks are below stable's × (1 − `clicks`) |

The bound of p99 is the next one that the histogram of seconds has, above `slow_factor` times stable's p99 until then.

A user counts once a step: lists of one user are alike, and a test that took each for an outcome of its own would give
alarms too often. With 100 % of the users there is no stable to compare with: errors and degraded lists are held against
a bound from the step before then; time of day and load, which move the other two, would speak for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cascade.canary.evalues import Counts, Null, upper_share

SignalName = Literal["errors", "degraded", "p99", "clicks"]
COMPARED: tuple[SignalName, ...] = ("errors", "degraded", "p99", "clicks")
ALONE: tuple[SignalName, ...] = ("errors", "degraded")
"""Signals judged once every user has the canary."""


@dataclass(frozen=True)
class Tolerances:
    """How much worse a canary may be: shares in points of 1, `clicks` as a share of stable's."""

    errors: float = 0.005
    degraded: float = 0.01
    slow: float = 0.01
    slow_factor: float = 1.25
    clicks: float = 0.05


def null_of(signal: SignalName, allowed: Tolerances) -> Null:
    """What is held of a canary until it is disproved."""
    if signal == "clicks":
        # clicks ≥ (1 − t) · stable's, said of the lists without a click
        return Null(1 - allowed.clicks, allowed.clicks)
    margin = {"errors": allowed.errors, "degraded": allowed.degraded, "p99": allowed.slow}[signal]
    return Null(1.0, margin)


def nulls_of(percent: float, before: Mapping[SignalName, Counts], allowed: Tolerances) -> dict[SignalName, Null]:
    """Of each signal that is judged at a share of users. before: what the step before counted."""
    if percent < 100:
        return {signal: null_of(signal, allowed) for signal in COMPARED}
    bounds: dict[SignalName, Null] = {}
    for signal in ALONE:
        seen = before.get(signal, Counts())
        stable = upper_share(seen.stable_bad, seen.stable)
        bounds[signal] = Null(0.0, min(null_of(signal, allowed).bound(stable), 1.0))
    return bounds


def sentence(signal: SignalName, counts: Counts, null: Null, slow_bound_s: float | None = None) -> str:
    """What was counted, for a person."""
    if signal == "clicks":
        clicked = counts.canary - counts.canary_bad, counts.stable - counts.stable_bad
        return (
            f"click-through: {_of(clicked[0], counts.canary, 'users clicked')}, "
            f"{_of(clicked[1], counts.stable, 'on stable')}"
        )
    what = {
        "errors": "calls failed",
        "degraded": "lists were made without a stage",
        "p99": f"calls took longer than {1000 * (slow_bound_s or 0):g} ms",
    }[signal]
    told = f"{signal}: {_of(counts.canary_bad, counts.canary, what)}"
    if null.slope:
        return f"{told}, {_of(counts.stable_bad, counts.stable, 'on stable')}"
    return f"{told}; {null.margin:.2%} was the bound"


def _of(part: float, whole: float, what: str) -> str:
    share = f" ({part / whole:.2%})" if whole else ""
    return f"{part:,.0f} of {whole:,.0f} {what}{share}"
