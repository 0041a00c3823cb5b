"""A question in PromQL, and the same of samples in hand; and that the gateways export what the judge asks for."""

from __future__ import annotations

from dataclasses import fields

import pytest

from cascade.canary import queries
from cascade.canary.queries import IMAGE, MODEL, Question
from cascade.serving.metrics import ServiceMetrics
from services.gateway.track_metrics import TrackMetrics


def test_in_promql() -> None:
    side = queries.track("ranker", "canary")
    assert MODEL.failed.selector(side) == (
        'cascade_track_requests_total{service="ranker",track="canary",outcome=~"error|late"}'
    )
    assert queries.share(Question("bad"), Question("all"), queries.pods("abc"), "2m") == (
        '(sum(rate(bad{rollouts_pod_template_hash="abc"}[2m])) / '
        'clamp_min(sum(rate(all{rollouts_pod_template_hash="abc"}[2m])), 0.001) or vector(0))'
    )
    assert queries.p99_above(IMAGE, queries.pods("a", "s"), queries.pods("b", "s"), "1m", 1.5).count("route") == 2


@pytest.mark.parametrize(
    ("labels", "selected"),
    [
        ({"service": "ranker", "track": "canary", "outcome": "late"}, True),
        ({"service": "ranker", "track": "canary", "outcome": "ok"}, False),
        ({"service": "ranker", "track": "stable", "outcome": "late"}, False),
        ({"service": "ranker", "track": "canary"}, False),
    ],
)
def test_of_samples(labels: dict[str, str], selected: bool) -> None:
    side = queries.track("ranker", "canary")
    assert MODEL.failed.selects("cascade_track_requests_total", labels, side) is selected
    assert not MODEL.failed.selects("cascade_requests_total", labels, side)


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="'!=' is not known"):
        Question("x", (("a", "!=", "b"),)).selects("x", {"a": "c"}, ())


def test_the_gateway_exports_what_is_asked_for() -> None:
    metrics = ServiceMetrics("gateway")
    TrackMetrics(metrics)
    names = {name for of in metrics.registry._collector_to_names.values() for name in of}
    asked = [getattr(MODEL, field.name) for field in fields(MODEL)]
    assert {one.metric for one in asked if isinstance(one, Question)} <= names
    assert {MODEL.buckets.metric, queries.NOT_LOADED.metric} <= names
