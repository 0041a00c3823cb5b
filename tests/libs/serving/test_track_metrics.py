"""Series by track and version are there for the newest versions alone."""

from __future__ import annotations

from cascade.serving.metrics import ServiceMetrics
from cascade.serving.track_metrics import KEPT, BundleMetrics, ByVersion


def test_the_versions_seen_first_go() -> None:
    gone: list[tuple[str, str, str]] = []
    made: list[tuple[str, str, str]] = []

    def make(*key: str) -> list[str]:
        made.append(key)  # type: ignore[arg-type]
        return list(key)

    series = ByVersion(make, lambda *key: gone.append(key))
    for number in range(KEPT):
        series.of("ranker", "canary", f"v{number}")
    stable = series.of("ranker", "stable", "v0")
    assert series.of("ranker", "stable", "v0") is stable
    assert not gone
    assert len(made) == KEPT + 1

    series.of("ranker", "canary", "v9")
    assert gone == [("ranker", "canary", "v0")]
    assert series.of("ranker", "stable", "v0") is stable


def test_requests_of_each_bundle_are_counted_with_their_outcome_and_time() -> None:
    metrics = ServiceMetrics("ranker")
    bundles = BundleMetrics(metrics)
    bundles.answered("stable", "v1", "ok", 0.002)
    bundles.answered("canary", "v2", "error", 0.3)
    bundles.answered("canary", "v2", "refused", 0.0)

    def value(name: str, track: str, version: str, **more: str) -> float | None:
        return metrics.registry.get_sample_value(
            name, {"service": "ranker", "track": track, "version": version, **more}
        )

    assert value("cascade_bundle_requests_total", "stable", "v1", outcome="ok") == 1
    assert value("cascade_bundle_requests_total", "stable", "v1", outcome="error") == 0
    assert value("cascade_bundle_requests_total", "canary", "v2", outcome="error") == 1
    assert value("cascade_bundle_requests_total", "canary", "v2", outcome="refused") == 1
    assert value("cascade_bundle_seconds_count", "canary", "v2") == 1
    assert value("cascade_bundle_seconds_sum", "canary", "v2") == 0.3

    for number in range(3, 3 + KEPT):
        bundles.answered("canary", f"v{number}", "ok", 0.001)
    assert value("cascade_bundle_requests_total", "canary", "v2", outcome="error") is None
    assert value("cascade_bundle_seconds_count", "canary", "v2") is None
    assert value("cascade_bundle_requests_total", "stable", "v1", outcome="ok") == 1
    assert 'version="v2"' not in metrics.exposition().decode()
