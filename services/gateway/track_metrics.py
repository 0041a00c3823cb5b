"""What the gateway counts of each track, for whoever judges a canary by them.

One family each, by service, track and version, while the service has a canary (or a request asks for one by header):

| metric | counts |
| --- | --- |
| `cascade_track_requests_total{…,outcome}` | calls to the service: `ok`, `error`, `late` |
| `cascade_track_seconds{…}` | wall time of those calls, whatever their outcome |
| `cascade_track_fallbacks_total{…,reason}` | canary calls that stable answered: `error`, `late`, `not_loaded` |
| `cascade_track_answers_total{…}` | recommendations by the track that the user was assigned |
| `cascade_track_degraded_total{…}` | those of them that were degraded, by whichever stage |

A call counts for the track and version that answered it; one that failed, for the track asked and the version that is
known to be there. The stable call after a failed canary call counts for stable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter, Histogram

from cascade import tracing
from cascade.serving.metrics import LATENCY_BUCKETS_S, ServiceMetrics
from cascade.serving.track_metrics import BY, ByVersion

Outcome = Literal["ok", "error", "late"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "error", "late")
FallbackReason = Literal["error", "late", "not_loaded"]
FALLBACK_REASONS: tuple[FallbackReason, ...] = ("error", "late", "not_loaded")

UNKNOWN = "unknown"
"""The version of a call that failed before any was seen."""


@dataclass(frozen=True, slots=True)
class _Series:
    outcomes: Mapping[Outcome, Counter]
    fallbacks: Mapping[FallbackReason, Counter]
    seconds: Histogram
    answers: Counter
    degraded: Counter


class TrackMetrics:
    """The families, and the few versions that have series in them."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        registry = metrics.registry
        self._requests = Counter(
            "cascade_track_requests", "Calls to a service that has a canary, by outcome", (*BY, "outcome"),
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "cascade_track_seconds", "Wall time of calls to a service that has a canary, as the gateway saw it", BY,
            buckets=LATENCY_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._fallbacks = Counter(
            "cascade_track_fallbacks", "Canary calls that stable answered instead, by reason", (*BY, "reason"),
            registry=registry,
        )  # fmt: skip
        self._answers = Counter(
            "cascade_track_answers", "Recommendations by the track assigned, while a service has a canary", BY,
            registry=registry,
        )  # fmt: skip
        self._degraded = Counter(
            "cascade_track_degraded", "Degraded recommendations by the track assigned", BY, registry=registry
        )
        self._series = ByVersion(self._make, self._forget)
        self._seen: dict[tuple[str, str], str] = {}

    def call(self, service: str, track: str, version: str | None, outcome: Outcome, seconds: float) -> None:
        """One call. version: None where the call failed: the one seen last on the track then."""
        series = self._of(service, track, version)
        series.outcomes[outcome].inc()
        series.seconds.observe(seconds, tracing.exemplar())

    def fallback(self, service: str, version: str | None, reason: FallbackReason) -> None:
        """The canary was asked in vain, and stable answers."""
        self._of(service, "canary", version).fallbacks[reason].inc()

    def answer(self, service: str, track: str, version: str | None, degraded: bool) -> None:
        """One recommendation, for the track that its user was assigned."""
        series = self._of(service, track, version)
        series.answers.inc()
        if degraded:
            series.degraded.inc()

    def _of(self, service: str, track: str, version: str | None) -> _Series:
        if version is None:
            version = self._seen.get((service, track), UNKNOWN)
        else:
            self._seen[service, track] = version
        return self._series.of(service, track, version)

    def _make(self, *key: str) -> _Series:
        return _Series(
            {outcome: self._requests.labels(*key, outcome) for outcome in OUTCOMES},
            {reason: self._fallbacks.labels(*key, reason) for reason in FALLBACK_REASONS},
            self._seconds.labels(*key),
            self._answers.labels(*key),
            self._degraded.labels(*key),
        )

    def _forget(self, *key: str) -> None:
        for outcome in OUTCOMES:
            self._requests.remove(*key, outcome)
        for reason in FALLBACK_REASONS:
            self._fallbacks.remove(*key, reason)
        for family in (self._seconds, self._answers, self._degraded):
            family.remove(*key)
