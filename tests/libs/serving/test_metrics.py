from __future__ import annotations

from itertools import pairwise

from cascade.serving.metrics import LATENCY_BUCKETS_S, ServiceMetrics


def test_buckets_rise_from_a_tenth_of_a_millisecond_to_a_second() -> None:
    assert all(low < high for low, high in pairwise(LATENCY_BUCKETS_S))
    assert (LATENCY_BUCKETS_S[0], LATENCY_BUCKETS_S[-1]) == (0.0001, 1.0)


def test_only_the_version_that_serves_is_told() -> None:
    metrics = ServiceMetrics("demo")
    for version in ("v1", "v2", "v2"):
        metrics.bundle(version, "stable")
    metrics.bundle("v3", "canary")
    text = metrics.exposition().decode()
    assert 'cascade_bundle_info{service="demo",track="stable",version="v2"} 1.0' in text
    assert 'cascade_bundle_info{service="demo",track="canary",version="v3"} 1.0' in text
    assert "v1" not in text


def test_methods_nobody_knows_share_one_label() -> None:
    metrics = ServiceMetrics("demo")
    for method in ("BREW", "X" * 1000):
        metrics.request("/x", method, 405, 0.001)
    assert 'cascade_requests_total{method="OTHER",route="/x",service="demo",status="405"} 2.0' in (
        metrics.exposition().decode()
    )
