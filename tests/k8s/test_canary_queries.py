"""New code is judged by the same questions as a new model, and neither spells them itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cascade.canary import queries
from cascade.canary.policy import Policy

CANARY, STABLE, SERVICE = "{{args.canary}}", "{{args.stable}}", "{{args.service}}"
WINDOW = "2m"
FACTOR = Policy().allowed.slow_factor


@pytest.mark.parametrize(
    ("template", "metric", "query"),
    [
        (
            "service-health",
            "error-rate",
            queries.error_share_above(
                queries.IMAGE, queries.pods(CANARY, SERVICE), queries.pods(STABLE, SERVICE), WINDOW
            ),
        ),
        (
            "service-health",
            "p99",
            queries.p99_above(
                queries.IMAGE, queries.pods(CANARY, SERVICE), queries.pods(STABLE, SERVICE), WINDOW, FACTOR
            ),
        ),
        (
            "gateway-lists",
            "degraded-share",
            queries.degraded_share_above(queries.IMAGE, queries.pods(CANARY), queries.pods(STABLE), WINDOW),
        ),
    ],
)
def test_an_analysis_asks_the_librarys_query(rendered: Any, template: str, metric: str, query: str) -> None:
    (asked,) = (m for m in rendered.one("AnalysisTemplate", template)["spec"]["metrics"] if m["name"] == metric)
    assert asked["provider"]["prometheus"]["query"].split() == query.split()


def test_an_analysis_allows_what_the_judge_allows(rendered: Any) -> None:
    allowed = Policy().allowed
    for template, metric, tolerance in (
        ("service-health", "error-rate", allowed.errors),
        ("gateway-lists", "degraded-share", allowed.degraded),
    ):
        (asked,) = (m for m in rendered.one("AnalysisTemplate", template)["spec"]["metrics"] if m["name"] == metric)
        assert asked["successCondition"] == f"result[0] < {tolerance:g}"


def test_the_steps_are_the_judges(rendered: Any) -> None:
    weights = [
        step["setWeight"]
        for step in rendered.one("Rollout", "ranker")["spec"]["strategy"]["canary"]["steps"]
        if "setWeight" in step
    ]
    assert weights == list(Policy().steps)


def test_the_dashboard_shows_of_tracks_what_the_judge_counts(rendered: Any) -> None:
    page = rendered.one("ConfigMap", "cascade-dashboard")["data"]["cascade-dashboard.json"]
    shown = [target["expr"] for panel in json.loads(page)["panels"] for target in panel["targets"]]
    asked = queries.MODEL
    for part, whole in ((asked.failed, asked.calls), (asked.degraded, asked.lists)):
        sums = [f"sum by (service, track) (rate({_spelled(one)}[1m]))" for one in (part, whole)]
        assert " / ".join(sums) in shown
    by_track = f"sum by (le, service, track) (rate({_spelled(asked.buckets)}[1m]))"
    assert f"histogram_quantile(0.99, {by_track})" in shown
    assert any("cascade_canary_percent" in expression for expression in shown)


def _spelled(question: queries.Question) -> str:
    """Of both tracks."""
    return question.selector(()).removesuffix("{}")
