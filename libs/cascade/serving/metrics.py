"""Prometheus metrics of one service. Each app has a registry of its own, so that several may live in one process."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from cascade import tracing

CONTENT_TYPE = CONTENT_TYPE_LATEST
OPENMETRICS_TYPE = openmetrics.CONTENT_TYPE_LATEST
"""The form that has exemplars: of a slow bucket, the trace of a request that fell into it."""
_OPENMETRICS = "application/openmetrics-text"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` gauge beside each series doubles the page and nothing reads it

LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075,
    0.01, 0.015, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0,
)  # fmt: skip
"""0.1 ms to 1 s, dense from 0.5 to 10 ms, where the targets lie; 0.1 and 0.25 are bounds that targets name."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class ServiceMetrics:
    """The metrics that every service has. A service adds its own on `registry`.

    Metrics with no label but `service` are bound to it already: `metrics.queue_wait.observe(seconds)`.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "cascade_requests", "Requests answered", ("service", "route", "method", "status"), registry=self.registry
        )
        self._request_seconds = Histogram(
            "cascade_request_seconds", "Wall time of a request inside the service", ("service", "route"),
            buckets=LATENCY_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._errors = Counter("cascade_errors", "Problems answered", ("service", "kind"), registry=self.registry)
        self._bundle_info = Gauge(
            "cascade_bundle_info", "1 for the bundle that serves", ("service", "version", "track"),
            registry=self.registry,
        )  # fmt: skip
        self._bundles: dict[str, str] = {}
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

        self.queue_wait = self._histogram("cascade_queue_wait_seconds", "Time a request waited for its turn")
        self.compute = self._histogram("cascade_compute_seconds", "Time the work of a request's batch took")
        self.batch_size = self._histogram("cascade_batch_size", "Requests in one batch", BATCH_BUCKETS)
        self.queue_depth = Gauge(
            "cascade_queue_depth", "Requests that wait now", ("service",), registry=self.registry
        ).labels(service)
        self.bundle_refused = self._counter("cascade_bundle_refused", "Bundles that were refused")
        self.unknown_ids = self._counter("cascade_unknown_ids", "Ids dropped because the bundle does not know them")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = LATENCY_BUCKETS_S) -> Histogram:
        return Histogram(name, text, ("service",), buckets=buckets, registry=self.registry).labels(self.service)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ("service",), registry=self.registry).labels(self.service)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the template, never the path."""
        key = (route, method if method in METHODS else "OTHER", status)
        children = self._children.get(key)
        if children is None:  # looking labels up anew would cost more than counting
            children = (
                self._requests.labels(self.service, route, key[1], str(status)),
                self._request_seconds.labels(self.service, route),
            )
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds, tracing.exemplar())

    def error(self, kind: str) -> None:
        """Count one problem answered."""
        self._errors.labels(self.service, kind).inc()

    def bundle(self, version: str, track: str) -> None:
        """Tell which version serves on a track; the one before disappears."""
        old = self._bundles.get(track)
        if old is not None and old != version:
            self._bundle_info.remove(self.service, old, track)
        self._bundles[track] = version
        self._bundle_info.labels(self.service, version, track).set(1)

    def no_bundle(self, track: str) -> None:
        """Nothing serves on a track any more."""
        old = self._bundles.pop(track, None)
        if old is not None:
            self._bundle_info.remove(self.service, old, track)

    def exposition(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """What GET /metrics answers, and its type: OpenMetrics for whoever accepts that, as Prometheus does."""
        if _OPENMETRICS not in accept:
            return self.exposition(), CONTENT_TYPE
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
