"""The engine's Observer: Prometheus metrics and the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from cascade import tracing
from cascade.api.gateway import Stage
from cascade.errors import CascadeError
from cascade.serving.balance import EJECTION_REASONS
from cascade.serving.logging import get_logger
from cascade.serving.metrics import LATENCY_BUCKETS_S, ServiceMetrics
from services.gateway.impressions import SHED_REASONS, ShedReason
from services.gateway.ports import StageError, StageOpen
from services.gateway.track_metrics import TrackMetrics
from services.gateway.tracks import TRACKED

STAGES: tuple[Stage, ...] = ("features", "retrieval", "filter", "ranker")
_TIMED = (*STAGES, "metadata", "total")
_IDS_LOGGED = 5

log = get_logger(__name__)


class Telemetry:
    """Counts, times and logs what the engine does.

    A stage that is late, down or busy is a warning; one that refuses or garbles is a defect of this system and an
    error, counted apart, because no restart will cure it.
    """

    def __init__(self, metrics: ServiceMetrics) -> None:
        registry = metrics.registry
        self._stage_seconds = Histogram(
            "cascade_stage_seconds", "Wall time of a stage as the gateway saw it", ("stage",),
            buckets=LATENCY_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._degraded = Counter(
            "cascade_degraded", "Recommendations made without a stage", ("stage",), registry=registry
        )
        self._failures = Counter(
            "cascade_stage_failures", "Stages that gave no usable answer, by reason", ("stage", "reason"),
            registry=registry,
        )  # fmt: skip
        self._breaker_open = Gauge(
            "cascade_breaker_open", "1 while the stage is not asked but for probes", ("stage",), registry=registry
        )
        self._breaker_openings = Counter(
            "cascade_breaker_openings", "Times the stage's circuit breaker opened", ("stage",), registry=registry
        )
        self._without_metadata = Counter(
            "cascade_items_without_metadata", "Items dropped because the catalog does not hold them",
            registry=registry,
        )  # fmt: skip
        self._popular_fallbacks = Counter(
            "cascade_popular_fallbacks", "Times the bundle's popularity stood in for Redis", registry=registry
        )
        self._impressions_written = Counter(
            "cascade_impressions_written", "Lists shown that are in the impressions stream", registry=registry
        )
        self._impressions_shed = Counter(
            "cascade_impressions_shed", "Lists shown that were not logged, by reason", ("reason",), registry=registry
        )
        self._canary_percent = Gauge(
            "cascade_canary_percent", "Share of users that this gateway sends to the service's canary", ("service",),
            registry=registry,
        )  # fmt: skip
        self._canary_unread = Counter(
            "cascade_canary_unread", "Looks at the model store that told nothing of a service's canary", ("service",),
            registry=registry,
        )  # fmt: skip
        self._replicas = Gauge("cascade_replicas", "Replicas known of a service", ("stage",), registry=registry)
        self._replicas_ejected = Gauge(
            "cascade_replicas_ejected", "Replicas known that get no calls for now", ("stage",), registry=registry
        )
        self._ejections = Counter(
            "cascade_ejections", "Times a replica was ejected, by reason", ("stage", "reason"), registry=registry
        )
        self._retries = Counter(
            "cascade_call_retries", "Calls sent once more, to another replica", ("stage",), registry=registry
        )
        self.tracks = TrackMetrics(metrics)
        """what is counted of each track while a service has a canary"""
        # Children up front: every series is there from the start, and no lookup costs the request.
        self._timed = {stage: self._stage_seconds.labels(stage) for stage in _TIMED}
        for stage in STAGES:
            self._degraded.labels(stage)
            self._breaker_open.labels(stage)
            self._breaker_openings.labels(stage)
        for service in TRACKED:
            self._canary_unread.labels(service)
        for reason in SHED_REASONS:
            self._impressions_shed.labels(reason)

    def stage(self, stage: str, seconds: float) -> None:
        """See Observer."""
        self._timed[stage].observe(seconds, tracing.exemplar())

    def degraded(self, stage: Stage, error: Exception) -> None:
        """See Observer."""
        self._degraded.labels(stage).inc()
        self.failure(stage, error)

    def failure(self, stage: Stage, error: Exception) -> None:
        """A call that had to answer without a stage, or could not answer."""
        reason = error.reason if isinstance(error, StageError) else "down"
        if isinstance(error, StageOpen):  # the opening was told; a line a request would tell nothing more
            self._failures.labels(stage, reason).inc()
            return
        if not isinstance(error, CascadeError):
            self._failures.labels(stage, "defect").inc()
            log.error("stage failed", stage=stage, reason="defect", exc_info=error)
        elif isinstance(error, StageError) and error.is_defect:
            self._failures.labels(stage, reason).inc()
            log.error("stage failed", stage=stage, reason=reason, error=str(error))
        else:
            self._failures.labels(stage, reason).inc()
            log.warning("stage failed", stage=stage, reason=reason, error=str(error))

    def breaker(self, stage: Stage, is_open: bool) -> None:
        """See Observer."""
        self._breaker_open.labels(stage).set(is_open)
        if is_open:
            self._breaker_openings.labels(stage).inc()
            log.warning("breaker opened: the stage is done without", stage=stage)
        else:
            log.info("breaker closed: the stage answers again", stage=stage)

    def without_metadata(self, item_ids: list[str]) -> None:
        """See Observer."""
        self._without_metadata.inc(len(item_ids))
        log.warning("items without metadata", count=len(item_ids), first=item_ids[:_IDS_LOGGED])

    def popular_fallback(self, error: Exception) -> None:
        """Redis gave no popular items; the bundle's stand in."""
        self._popular_fallbacks.inc()
        log.warning("popular items from the bundle", error=f"{type(error).__name__}: {error}")

    def impressions_written(self, count: int) -> None:
        """See ImpressionObserver."""
        self._impressions_written.inc(count)

    def impressions_shed(self, count: int, reason: ShedReason) -> None:
        """See ImpressionObserver."""
        self._impressions_shed.labels(reason).inc(count)

    def share(self, service: Stage, percent: float) -> None:
        """See CanaryObserver."""
        self._canary_percent.labels(service).set(percent)

    def unread(self, service: Stage) -> None:
        """See CanaryObserver."""
        self._canary_unread.labels(service).inc()

    def replicas_of(self, stage: Stage) -> ReplicaTelemetry:
        """What counts the replicas of a stage; no label names one of them."""
        return ReplicaTelemetry(
            self._replicas.labels(stage),
            self._replicas_ejected.labels(stage),
            {reason: self._ejections.labels(stage, reason) for reason in EJECTION_REASONS},
            self._retries.labels(stage),
        )


@dataclass(frozen=True)
class ReplicaTelemetry:
    """A ReplicaObserver: Prometheus metrics of one service's replicas."""

    known: Gauge
    out: Gauge
    ejections: Mapping[str, Counter]
    retries: Counter

    def replicas(self, known: int, ejected: int) -> None:
        """See ReplicaObserver."""
        self.known.set(known)
        self.out.set(ejected)

    def ejection(self, reason: str) -> None:
        """See ReplicaObserver."""
        self.ejections[reason].inc()

    def retry(self) -> None:
        """See ReplicaObserver."""
        self.retries.inc()
