"""What is counted of API keys. Labels are key ids, which are few and no secrets."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from cascade.serving.metrics import ServiceMetrics


class AccessMetrics:
    """A RateObserver, and the state of the keys."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        registry = metrics.registry
        self._keys = Gauge("cascade_api_keys", "API keys that are known", registry=registry)
        self._unreadable = Gauge(
            "cascade_api_keys_unreadable", "1 while the file of API keys cannot be read and those of before stay",
            registry=registry,
        )  # fmt: skip
        self._limited = Counter(
            "cascade_rate_limited", "Requests refused because their key had made its share", ("key",),
            registry=registry,
        )  # fmt: skip
        self._alone = Counter(
            "cascade_rate_counted_alone", "Requests of keys that were counted without Redis", registry=registry
        )

    def keys(self, count: int, *, unreadable: bool) -> None:
        """So many keys are known."""
        self._keys.set(count)
        self._unreadable.set(unreadable)

    def rate_limited(self, key_id: str) -> None:
        """See RateObserver."""
        self._limited.labels(key_id).inc()

    def counted_alone(self) -> None:
        """See RateObserver."""
        self._alone.inc()
