"""Metrics by track and version, with a bound on the versions that have series.

While a service has a canary, what its users get is counted for both tracks, so that one can be judged by the other.
While it has none, nothing is: the service's own metrics say it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from cascade import tracing
from cascade.serving.metrics import LATENCY_BUCKETS_S, ServiceMetrics

S = TypeVar("S")

KEPT = 3
"""Versions of a service's track that keep their series; the ones seen first go. Replicas change one after another, so
two may answer for a while, and the third is the one before: its last figures are still there to be read."""

BY = ("service", "track", "version")

Served = Literal["ok", "error", "refused"]
SERVED: tuple[Served, ...] = ("ok", "error", "refused")


class ByVersion(Generic[S]):
    """What is counted of each (service, track, version), for the newest versions of each track.

    make: the series of one; drop: forget them
    """

    def __init__(self, make: Callable[[str, str, str], S], drop: Callable[[str, str, str], None]) -> None:
        self._make = make
        self._drop = drop
        self._series: dict[tuple[str, str, str], S] = {}
        self._versions: dict[tuple[str, str], list[str]] = {}

    def of(self, service: str, track: str, version: str) -> S:
        """The series of one version, made where it is new."""
        key = (service, track, version)
        found = self._series.get(key)
        return self._add(key) if found is None else found

    def _add(self, key: tuple[str, str, str]) -> S:
        service, track, version = key
        versions = self._versions.setdefault((service, track), [])
        versions.append(version)
        if len(versions) > KEPT:
            oldest = versions.pop(0)
            del self._series[service, track, oldest]
            self._drop(service, track, oldest)
        made = self._series[key] = self._make(*key)
        return made


@dataclass(frozen=True, slots=True)
class _BundleSeries:
    outcomes: Mapping[Served, Counter]
    seconds: Histogram


class BundleMetrics:
    """What a service counts of each bundle it holds, while it holds a canary beside the stable one."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._service = metrics.service
        registry: CollectorRegistry = metrics.registry
        self._requests = Counter(
            "cascade_bundle_requests",
            "Requests by the bundle asked for, while a canary is loaded: answered (ok), failed in it (error), or "
            "turned away before it (refused)",
            (*BY, "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "cascade_bundle_seconds", "Time of a request in the queue and in the bundle, while a canary is loaded",
            BY, buckets=LATENCY_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._series = ByVersion(self._make, self._forget)

    def answered(self, track: str, version: str, outcome: Served, seconds: float) -> None:
        """Count one request. seconds: queue and computation; counted for those answered or failed."""
        series = self._series.of(self._service, track, version)
        series.outcomes[outcome].inc()
        if outcome != "refused":
            series.seconds.observe(seconds, tracing.exemplar())

    def _make(self, *key: str) -> _BundleSeries:
        outcomes = {outcome: self._requests.labels(*key, outcome) for outcome in SERVED}
        return _BundleSeries(outcomes, self._seconds.labels(*key))

    def _forget(self, *key: str) -> None:
        for outcome in SERVED:
            self._requests.remove(*key, outcome)
        self._seconds.remove(*key)
