"""Every metric that something on the cluster asks for is one that a service exports, with those labels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade.serving.metrics import ServiceMetrics
from services.features.telemetry import Telemetry as FeaturesTelemetry
from services.gateway.telemetry import Telemetry as GatewayTelemetry

SERVICES = ("gateway", "retrieval", "filter", "ranker", "features")
DASHBOARD = Path(__file__).parents[2] / "k8s" / "components" / "monitoring" / "cascade-dashboard.json"

# Where a metric comes from, Prometheus says; `le` is every histogram's.
TARGET_LABELS = {"namespace", "pod", "job", "instance", "rollouts_pod_template_hash"}

_SERIES = re.compile(r"\b((?:cascade|process|python)_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}

Exported = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def apps() -> dict[str, Any]:
    """The services' apps; what their lifespans would register on the registry, too."""
    found = {}
    for name in SERVICES:
        settings = getattr(import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings")
        found[name] = import_module(f"services.{name}.app").create_app(settings(_env_file=None))
    GatewayTelemetry(found["gateway"].state.metrics)
    FeaturesTelemetry(found["features"].state.metrics)
    return found


@pytest.fixture(scope="module")
def exported(apps: dict[str, Any]) -> Exported:
    """Series → service → its labels."""
    found: Exported = {}
    for service, app in apps.items():
        metrics: ServiceMetrics = app.state.metrics
        for collector, names in metrics.registry._collector_to_names.items():
            labels = set(getattr(collector, "_labelnames", ()))
            for name in names:
                found.setdefault(name, {})[service] = labels | ({"le"} if name.endswith("_bucket") else set())
        for name in _on_page(metrics.exposition().decode()):  # the process's own, which say nothing beforehand
            found.setdefault(name, {}).setdefault(service, set())
    return found


def _on_page(page: str) -> set[str]:
    """The series that a page of metrics has or would have."""
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", page, flags=re.MULTILINE)
    return {
        name if name.endswith(suffix) else f"{name}{suffix}"  # a counter's line may end in _total already
        for name, kind in kinds
        for suffix in _SUFFIXES[kind]
    }


def _queries(rendered: Any, helm_values: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query."""
    for name, rules in rendered.of("PrometheusRule").items():
        for group in rules["spec"]["groups"]:
            yield from ((f"{name}/{rule['alert']}", rule["expr"]) for rule in group["rules"])
    for name, template in rendered.of("AnalysisTemplate").items():
        for metric in template["spec"]["metrics"]:
            yield f"{name}/{metric['name']}", metric["provider"]["prometheus"]["query"]
    for rule in helm_values("prometheus-adapter.yaml")["rules"]["custom"]:
        yield f"adapter/{rule['name']['as']}", rule["metricsQuery"]
        yield f"adapter/{rule['name']['as']}", rule["seriesQuery"]
    dashboard = json.loads(rendered.one("ConfigMap", "cascade-dashboard")["data"]["cascade-dashboard.json"])
    for panel in dashboard["panels"]:
        yield from ((f"dashboard/{panel['title']}", target["expr"]) for target in panel["targets"])


def test_brackets_of_queries_close(rendered: Any, helm_values: Callable[[str], Any]) -> None:
    for where, query in _queries(rendered, helm_values):
        for opening, closing in ("()", "[]", "{}"):
            assert query.count(opening) == query.count(closing), where


async def test_names_are_those_of_the_live_page(apps: dict[str, Any], exported: Exported) -> None:
    for service, app in apps.items():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            page = (await client.get("/metrics")).text
        live = _on_page(page)
        assert live >= {"cascade_queue_wait_seconds_sum", "cascade_requests_total"}
        assert live <= {name for name, by in exported.items() if service in by}


def test_every_series_asked_for_is_exported(
    rendered: Any, helm_values: Callable[[str], Any], exported: Exported
) -> None:
    count = 0
    for where, query in _queries(rendered, helm_values):
        for series, _ in _SERIES.findall(query):
            assert series in exported, f"{where} asks for {series}"
            count += 1
    assert count > 60


def test_every_label_asked_for_is_one_of_the_series(
    rendered: Any, helm_values: Callable[[str], Any], exported: Exported
) -> None:
    for where, query in _queries(rendered, helm_values):
        for series, matchers in _SERIES.findall(query):
            by_service = exported[series]
            for label, value in _MATCHER.findall(matchers):
                known = set.union(*by_service.values()) | TARGET_LABELS
                assert label in known, f"{where}: {series} has no label {label}"
                if label == "service" and "{{" not in value:
                    assert value in by_service, f"{where}: {value} does not export {series}"
        grouped = {label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")}
        known = {label for series, _ in _SERIES.findall(query) for by in exported[series].values() for label in by}
        assert {label for label in grouped if "<<" not in label} <= known | TARGET_LABELS, where


def test_analysis_of_a_service_asks_for_what_it_exports(rendered: Any, exported: Exported) -> None:
    templates = rendered.of("AnalysisTemplate")
    for service in SERVICES:
        analysis = rendered.one("Rollout", service)["spec"]["strategy"]["canary"]["analysis"]
        assert {"name": "service", "value": service} in analysis["args"]
        for template in analysis["templates"]:
            for metric in templates[template["templateName"]]["spec"]["metrics"]:
                query = metric["provider"]["prometheus"]["query"]
                assert all(service in exported[series] for series, _ in _SERIES.findall(query)), metric["name"]


def test_routes_named_are_routes_of_the_gateway(
    rendered: Any, helm_values: Callable[[str], Any], apps: dict[str, Any]
) -> None:
    routes = set(apps["gateway"].openapi()["paths"])
    named = {route for _, query in _queries(rendered, helm_values) for route in re.findall(r'route="([^"]+)"', query)}

    assert named
    assert named <= routes


def test_autoscalers_ask_for_what_the_adapter_offers(
    rendered: Any, helm_values: Callable[[str], Any], exported: Exported
) -> None:
    rules = {rule["name"]["as"]: rule for rule in helm_values("prometheus-adapter.yaml")["rules"]["custom"]}
    asked = set()
    for service, scaler in rendered.of("HorizontalPodAutoscaler").items():
        name = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
        asked.add(name)
        assert name in rules
        assert "[30s]" in rules[name]["metricsQuery"]
        assert {"namespace", "pod"} <= set(rules[name]["resources"]["overrides"])
        assert all(service in exported[series] for series, _ in _SERIES.findall(rules[name]["seriesQuery"]))
    assert asked == set(rules)


def test_scrapes_keep_the_services_own_label_and_tell_new_code_from_old(rendered: Any) -> None:
    (monitor,) = rendered.of("ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True
    assert "rollouts-pod-template-hash" in monitor["spec"]["podTargetLabels"]
    assert int(endpoint["interval"].removesuffix("s")) * 4 <= 30  # a rate over 30 s needs several looks
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = {name for name, found in rendered.of("Service").items() if wanted <= found["metadata"]["labels"].items()}
    assert scraped == set(SERVICES)
    for name in scraped:
        assert endpoint["port"] in {port["name"] for port in rendered.one("Service", name)["spec"]["ports"]}


def test_every_fault_that_must_wake_somebody_has_an_alert(rendered: Any) -> None:
    (rules,) = rendered.of("PrometheusRule").values()
    alerts = {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"]}

    wanted = {"Errors", "ListsSlow", "QueueWait", "StreamLag", "BundleStale", "Degraded", "CanaryUnread"}
    assert {f"Cascade{name}" for name in wanted} <= set(alerts)
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in alerts.values())


def test_panels_of_the_dashboard_lie_side_by_side() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
