"""What is counted of each track, and of how many versions."""

from __future__ import annotations

import pytest

from cascade.serving.metrics import ServiceMetrics
from cascade.serving.track_metrics import KEPT
from services.gateway.track_metrics import TrackMetrics


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics("gateway")


def value(metrics: ServiceMetrics, name: str, track: str, version: str, **more: str) -> float | None:
    labels = {"service": "ranker", "track": track, "version": version, **more}
    return metrics.registry.get_sample_value(name, labels)


def test_calls_count_by_outcome_and_time(metrics: ServiceMetrics) -> None:
    tracks = TrackMetrics(metrics)
    tracks.call("ranker", "stable", "v1", "ok", 0.002)
    tracks.call("ranker", "canary", "v2", "late", 0.15)
    tracks.fallback("ranker", "v2", "late")
    assert value(metrics, "cascade_track_requests_total", "stable", "v1", outcome="ok") == 1
    assert value(metrics, "cascade_track_requests_total", "canary", "v2", outcome="late") == 1
    assert value(metrics, "cascade_track_requests_total", "canary", "v2", outcome="ok") == 0
    assert value(metrics, "cascade_track_seconds_sum", "canary", "v2") == 0.15
    assert value(metrics, "cascade_track_fallbacks_total", "canary", "v2", reason="late") == 1


def test_answers_count_by_the_track_assigned(metrics: ServiceMetrics) -> None:
    tracks = TrackMetrics(metrics)
    tracks.answer("ranker", "canary", "v2", degraded=True)
    tracks.answer("ranker", "canary", "v2", degraded=False)
    assert value(metrics, "cascade_track_answers_total", "canary", "v2") == 2
    assert value(metrics, "cascade_track_degraded_total", "canary", "v2") == 1


def test_a_failed_call_counts_for_the_version_seen_last(metrics: ServiceMetrics) -> None:
    tracks = TrackMetrics(metrics)
    tracks.call("ranker", "stable", None, "error", 0.001)
    assert value(metrics, "cascade_track_requests_total", "stable", "unknown", outcome="error") == 1
    for version in ("v1", "v2", "v1"):
        tracks.call("ranker", "stable", version, "ok", 0.001)
    tracks.call("ranker", "stable", None, "error", 0.001)
    assert value(metrics, "cascade_track_requests_total", "stable", "v1", outcome="error") == 1


def test_few_versions_have_series(metrics: ServiceMetrics) -> None:
    tracks = TrackMetrics(metrics)
    for number in range(20):
        tracks.call("ranker", "canary", f"v{number}", "error", 0.001)
        tracks.fallback("ranker", f"v{number}", "error")
        tracks.answer("ranker", "canary", f"v{number}", degraded=True)
    page = metrics.exposition().decode()
    assert {f'version="v{number}"' in page for number in range(20 - KEPT, 20)} == {True}
    assert not any(f'version="v{number}"' in page for number in range(20 - KEPT))
