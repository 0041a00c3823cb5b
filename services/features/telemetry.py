"""What the worker tells about itself on /metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from cascade.serving.metrics import ServiceMetrics

LAG_BUCKETS_S = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
FLUSH_BUCKETS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000)
FLUSH_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Telemetry:
    """Metrics of all streams; `of` binds one."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        registry = metrics.registry
        by_stream = ("stream",)
        self.lag = Histogram(
            "cascade_feature_lag_seconds", "From an event in the stream to its user's features online",
            buckets=LAG_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self.pushed = Counter("cascade_feature_pushes", "Users whose features were pushed online", registry=registry)
        self.offline_seconds = Histogram(
            "cascade_offline_push_seconds", "Time of a push to the offline store",
            buckets=FLUSH_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self.offline_failures = Counter(
            "cascade_offline_push_failures", "Pushes to the offline store that failed", registry=registry
        )
        self.entries = Counter("cascade_stream_entries", "Entries read", by_stream, registry=registry)
        self.length = Gauge("cascade_stream_length", "Entries in the stream", by_stream, registry=registry)
        self.pending = Gauge(
            "cascade_stream_pending", "Entries delivered and not acknowledged", by_stream, registry=registry
        )
        self.claimed = Counter(
            "cascade_claimed", "Entries taken over from workers that died", by_stream, registry=registry
        )
        self.lost = Counter(
            "cascade_lost_to_others", "Entries that others took over from this worker", by_stream, registry=registry
        )
        self.recovered = Counter(
            "cascade_recovered_files", "Files that another worker had begun and this one finished", by_stream,
            registry=registry,
        )  # fmt: skip
        self.failed = Counter("cascade_failed_tries", "Tries of entries that failed", by_stream, registry=registry)
        self.dead_letters = Counter(
            "cascade_dead_letters", "Entries moved to the dead letters", by_stream, registry=registry
        )
        self.troubles = Counter(
            "cascade_worker_troubles", "Cycles that failed and are tried again", by_stream, registry=registry
        )
        self.forgotten = Counter(
            "cascade_forgotten_users", "Users whose rows were removed from every file", registry=registry
        )
        self.forgetting_failures = Counter(
            "cascade_forgetting_failures", "Removals of a user that failed and are tried again", registry=registry
        )
        by_feature = ("model", "feature")
        self.psi = Gauge(
            "cascade_feature_psi", "Population stability index, serving against training, of the latest window",
            by_feature, registry=registry,
        )  # fmt: skip
        self.psi_judged = Gauge(
            "cascade_feature_psi_judged", "1 where there were visitors enough to judge the index, else 0",
            by_feature, registry=registry,
        )  # fmt: skip
        self.psi_visitors = Gauge(
            "cascade_feature_psi_visitors", "Visitors that the index is of", by_feature, registry=registry
        )
        self.drift_end = Gauge(
            "cascade_drift_window_end_seconds", "End of the latest window, seconds since 1970; 0 before the first",
            registry=registry,
        )  # fmt: skip
        self.flush_size = Histogram(
            "cascade_flush_entries", "Entries written into one file", by_stream,
            buckets=FLUSH_BUCKETS, registry=registry,
        )  # fmt: skip
        self.flush_seconds = Histogram(
            "cascade_flush_seconds", "Time to write a file and acknowledge its entries", by_stream,
            buckets=FLUSH_BUCKETS_S, registry=registry,
        )  # fmt: skip
