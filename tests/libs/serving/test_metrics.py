from __future__ import annotations

from itertools import pairwise

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cascade.serving.metrics import CONTENT_TYPE, LATENCY_BUCKETS_S, ServiceMetrics
from cascade.tracing import Entered


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


class _Collected:
    """A span that somebody collects, as far as a measured value is concerned."""

    trace_id, sampled = "a" * 32, True

    def failed(self, error_type: str) -> None: ...

    def end(self, at_ns: int | None = None) -> None: ...


def test_a_bucket_names_the_trace_of_a_request_that_fell_into_it() -> None:
    metrics = ServiceMetrics("demo")
    metrics.request("/x", "POST", 200, 0.0021)
    with Entered(_Collected()):  # type: ignore[arg-type]
        metrics.request("/x", "POST", 200, 0.24)

    page, content_type = metrics.page("application/openmetrics-text; version=1.0.0; q=0.9, text/plain; q=0.1")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {one.name: one for one in text_string_to_metric_families(page.decode())}
    samples = families["cascade_request_seconds"].samples
    exemplars = {sample.labels["le"]: sample.exemplar for sample in samples if sample.exemplar is not None}
    assert set(exemplars) == {"0.25"}
    assert exemplars["0.25"].labels == {"trace_id": "a" * 32}
    assert exemplars["0.25"].value == 0.24

    for accept in ("", "*/*", "text/plain;version=0.0.4"):
        page, content_type = metrics.page(accept)
        assert content_type == CONTENT_TYPE
        assert b"# {" not in page


def test_both_forms_of_the_page_tell_the_same() -> None:
    metrics = ServiceMetrics("demo")
    metrics.request("/x", "POST", 200, 0.0021)
    metrics.error("internal")

    def samples(page: bytes) -> set[str]:
        return {line for line in page.decode().splitlines() if line.startswith("cascade_")}

    assert samples(metrics.page("application/openmetrics-text")[0]) == samples(metrics.exposition())
