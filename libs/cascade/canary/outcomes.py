"""What happened to calls and lists of a track between two looks, out of counters that only ever grow.

Each replica of the gateway has counters of its own. A counter that fell belongs to a process that began anew, and
counts from 0; a replica that did not answer is caught up with at its next answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cascade.canary import queries
from cascade.canary.queries import MODEL, NOT_LOADED, Matchers, Question

Labels = frozenset[tuple[str, str]]
Samples = Mapping[tuple[str, Labels], float]
"""(name, labels) → value."""


@dataclass(frozen=True)
class Page:
    """What one replica's counters say. started: since when its process runs, in UTC seconds; None where unknown."""

    samples: Samples
    started: float | None = None


Fetch = Callable[[], Mapping[str, Page]]
"""→ a page for each replica that answered, by its name. Raises NoEvidence where none does."""


@dataclass(frozen=True)
class Outcomes:
    """Of one track. seconds: upper bound of a bucket, as Prometheus spells it, → calls that took at most so long."""

    calls: float = 0.0
    failed: float = 0.0
    lists: float = 0.0
    degraded: float = 0.0
    not_loaded: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def slower_than(self, bound: str) -> tuple[float, float]:
        """How many calls there were, and how many of them took longer than a bucket's bound."""
        timed = self.seconds.get("+Inf", 0.0)
        return timed, max(timed - self.seconds.get(bound, 0.0), 0.0)


class Increments:
    """The outcomes of both tracks since the last look."""

    def __init__(self, fetch: Fetch, service: str, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._sides = {name: queries.track(service, name) for name in ("stable", "canary")}
        self._clock = clock
        self._pages: dict[str, Page] = {}
        self._looked: float | None = None

    def look(self) -> tuple[Outcomes, Outcomes]:
        """Stable's and the canary's; nothing at the first look, whose counters are where counting begins."""
        found, first = self._fetch(), self._looked is None
        grown: dict[tuple[str, Labels], float] = {}
        for replica, page in found.items():
            before = self._pages.get(replica)
            if before is None and (first or not self._is_new(page)):
                continue
            for key, growth in growth_of(before.samples if before else {}, page.samples).items():
                grown[key] = grown.get(key, 0.0) + growth
        self._pages |= found
        self._looked = self._clock()
        return outcomes(grown, self._sides["stable"]), outcomes(grown, self._sides["canary"])

    def _is_new(self, page: Page) -> bool:
        """Whether the replica began after the last look, so that all it counted is new."""
        return page.started is not None and self._looked is not None and page.started >= self._looked


def growth_of(before: Samples, now: Samples) -> dict[tuple[str, Labels], float]:
    """By how much each counter grew."""
    return {key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value for key, value in now.items()}


def outcomes(samples: Samples, side: Matchers) -> Outcomes:
    """Of one side."""

    def total(question: Question) -> float:
        return sum(value for (name, labels), value in samples.items() if question.selects(name, dict(labels), side))

    seconds: dict[str, float] = {}
    for (name, labels), value in samples.items():
        of = dict(labels)
        if MODEL.buckets.selects(name, of, side):
            seconds[of["le"]] = seconds.get(of["le"], 0.0) + value
    calls, failed, lists, degraded = map(total, (MODEL.calls, MODEL.failed, MODEL.lists, MODEL.degraded))
    # Counters of one page are read one after another: a list may be counted as degraded a moment before it counts.
    return Outcomes(calls, min(failed, calls), lists, min(degraded, lists), total(NOT_LOADED), seconds)


def added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Buckets of both together."""
    return {bound: one.get(bound, 0.0) + other.get(bound, 0.0) for bound in {**one, **other}}


def quantile(seconds: Mapping[str, float], share: float) -> float | None:
    """Seconds that `share` of the calls took at most, read off a line within its bucket, as Prometheus does.

    None without calls, and where it lies beyond the last bound.
    """
    bounds = sorted(seconds, key=float)
    wanted = share * seconds.get("+Inf", 0.0)
    below, lower = 0.0, 0.0
    for bound in bounds:
        if wanted and seconds[bound] >= wanted:
            upper = float(bound)
            if math.isinf(upper):
                return None
            return lower + (upper - lower) * (wanted - below) / max(seconds[bound] - below, 1e-9)
        below, lower = seconds[bound], float(bound)
    return None


def bound_beyond(seconds: Mapping[str, float], at_least_s: float) -> str | None:
    """The lowest bound of a bucket that is no less than so many seconds; None where only the last is."""
    for bound in sorted(seconds, key=float):
        if float(bound) >= at_least_s:
            return None if math.isinf(float(bound)) else bound
    return None
