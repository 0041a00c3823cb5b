"""The same counters from gateways' pages and from a Prometheus."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

from cascade.canary import queries
from cascade.canary.errors import NoEvidence
from cascade.canary.outcomes import outcomes
from cascade.canary.sources import gateway_pages, parse, prometheus_server
from cascade.serving.metrics import ServiceMetrics
from services.gateway.track_metrics import TrackMetrics

CANARY = queries.track("ranker", "canary")


def exposition() -> str:
    """A real gateway's page: four canary calls, of which one failed and one was late."""
    metrics = ServiceMetrics("gateway")
    tracks = TrackMetrics(metrics)
    for outcome, seconds in (("ok", 0.004), ("ok", 0.02), ("error", 0.001), ("late", 0.3)):
        tracks.call("ranker", "canary", "v2", outcome, seconds)
    tracks.call("ranker", "stable", "v1", "ok", 0.004)
    tracks.call("retrieval", "canary", "v3", "ok", 0.004)
    tracks.fallback("ranker", "v2", "not_loaded")
    tracks.fallback("ranker", "v2", "error")
    for degraded in (False, False, True):
        tracks.answer("ranker", "canary", "v2", degraded)
    return metrics.exposition().decode()


def test_a_gateways_page() -> None:
    page = parse(exposition())
    found = outcomes(page.samples, CANARY)
    assert (found.calls, found.failed, found.lists, found.degraded, found.not_loaded) == (4, 2, 3, 1, 1)
    assert found.slower_than("0.025") == (4, 1)
    assert outcomes(page.samples, queries.track("ranker", "stable")).calls == 1
    assert page.started is not None


def test_every_gateway_is_asked_and_one_that_is_down_is_left_out() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.port == 2:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, text=exposition())

    client = httpx.Client(transport=httpx.MockTransport(answer))
    pages = gateway_pages(client, "http://127.0.0.1:1, http://127.0.0.1:2/,http://127.0.0.1:3")()
    assert sorted(pages) == ["http://127.0.0.1:1", "http://127.0.0.1:3"]
    with pytest.raises(NoEvidence, match=r"http://127.0.0.1:2: ConnectError refused.*CASCADE_CANARY_GATEWAYS"):
        gateway_pages(client, "http://127.0.0.1:2")()


def test_a_name_with_several_addresses_is_as_many_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("10.0.0.2", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.headers["host"]))
        return httpx.Response(200, text=exposition())

    client = httpx.Client(transport=httpx.MockTransport(answer))
    assert list(gateway_pages(client, "http://gateways:8000")()) == ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
    assert asked == [("10.0.0.1", "gateways:8000"), ("10.0.0.2", "gateways:8000")]


def test_a_prometheus_tells_the_same() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["query"])
        return httpx.Response(200, json={"data": {"result": rows(asked[-1])}})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    pages = prometheus_server(client, "http://prometheus:9090/", "ranker")()
    assert asked == ['{__name__=~"cascade_track_.+",service="ranker"}', queries.STARTED]
    assert outcomes(pages["pod-1:8000"].samples, CANARY) == outcomes(parse(exposition()).samples, CANARY)
    assert pages["pod-1:8000"].started == 17.0


def rows(query: str) -> list[dict[str, Any]]:
    if query == queries.STARTED:
        return [{"metric": {"instance": "pod-1:8000"}, "value": [0, "17"]}]
    return [
        {"metric": {"__name__": name, "instance": "pod-1:8000", **dict(labels)}, "value": [0, str(value)]}
        for (name, labels), value in parse(exposition()).samples.items()
        if ("service", "ranker") in labels
    ]


@pytest.mark.parametrize("body", ["no JSON", json.dumps({"status": "error"}), json.dumps({"data": None})])
def test_a_prometheus_that_gives_no_answer_is_named(body: str) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=body)))
    with pytest.raises(NoEvidence, match=r"http://prometheus:9090 does not answer.*CASCADE_CANARY_PROMETHEUS"):
        prometheus_server(client, "http://prometheus:9090", "ranker")()
