"""A list's way through four real processes and Redis is one trace, and a slow bucket names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.one_process import create_app
from tests.collector import Collector
from tests.services.small_shop import IDS, SERVICES, environment, start, wait_until_ready, write_models

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
CALLER = "00f067aa0ba902b7"
USER = "visitor-number-seventeen"
ROOT = "gateway:POST /v1/recommendations"
LIST = [
    f"{ROOT}",
    f"{ROOT} > gateway:features",
    f"{ROOT} > gateway:features > gateway:redis HMGET LRANGE",
    f"{ROOT} > gateway:retrieval",
    f"{ROOT} > gateway:retrieval > gateway:call retrieval",
    f"{ROOT} > gateway:retrieval > gateway:call retrieval > retrieval:POST /v1/retrieve",
    f"{ROOT} > gateway:retrieval > gateway:call retrieval > retrieval:POST /v1/retrieve > retrieval:queue",
    f"{ROOT} > gateway:retrieval > gateway:call retrieval > retrieval:POST /v1/retrieve > retrieval:compute",
    f"{ROOT} > gateway:filter",
    f"{ROOT} > gateway:filter > gateway:call filter",
    f"{ROOT} > gateway:filter > gateway:call filter > filter:POST /v1/filter",
    f"{ROOT} > gateway:filter > gateway:call filter > filter:POST /v1/filter > filter:compute",
    f"{ROOT} > gateway:filter > gateway:call filter > filter:POST /v1/filter > filter:compute > filter:redis GET",
    f"{ROOT} > gateway:ranker",
    f"{ROOT} > gateway:ranker > gateway:call ranker",
    f"{ROOT} > gateway:ranker > gateway:call ranker > ranker:POST /v1/rank",
    f"{ROOT} > gateway:ranker > gateway:call ranker > ranker:POST /v1/rank > ranker:queue",
    f"{ROOT} > gateway:ranker > gateway:call ranker > ranker:POST /v1/rank > ranker:compute",
    f"{ROOT} > gateway:metadata",
]
WITHOUT = "import sys; sys.modules.update(dict.fromkeys(('opentelemetry.sdk', 'opentelemetry.exporter'))); "
"""A Python without the extra: the API, which FastAPI imports, is there; what makes and sends spans is not."""


@dataclass(frozen=True)
class Shop:
    """Four processes that trace, and what they write."""

    client: httpx.AsyncClient
    collector: Collector
    processes: dict[str, subprocess.Popen[bytes]]
    logs: dict[str, Path]
    ports: dict[str, str]

    def lines(self, service: str) -> list[dict[str, object]]:
        """What a service logged."""
        return [json.loads(line) for line in self.logs[service].read_text().splitlines()]


@asynccontextmanager
async def running(tmp_path: Path, redis_url: str, **settings: str) -> AsyncIterator[Shop]:
    write_models(tmp_path / "models")
    variables = environment(tmp_path / "models", redis_url, tmp_path)
    (tmp_path / "none.db").touch()  # there is a feature store, which knows nobody
    with Collector() as collector:
        for service in SERVICES:
            prefix = f"CASCADE_{service.upper()}"
            variables |= {f"{prefix}_TRACING_ENDPOINT": collector.endpoint, f"{prefix}_ACCESS_LOG": "true"}
        variables |= {"OTEL_BSP_SCHEDULE_DELAY": "100", **settings}
        logs = {service: tmp_path / f"{service}.log" for service in SERVICES}
        processes = {service: start(service, variables, logs[service]) for service in SERVICES}
        ports = {service: variables[f"CASCADE_{service.upper()}_PORT"] for service in SERVICES}
        try:
            for service, process in processes.items():
                await wait_until_ready(ports[service], process)
            url = f"http://127.0.0.1:{ports['gateway']}"
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                yield Shop(client, collector, processes, logs, ports)
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait(30)


async def ask(shop: Shop, trace_id: str, flags: str = "01") -> dict[str, object]:
    answer = await shop.client.post(
        "/v1/recommendations",
        json={"user_id": USER, "k": 5},
        headers={"traceparent": f"00-{trace_id}-{CALLER}-{flags}", "x-request-id": f"ask-{trace_id[:4]}"},
    )
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


async def test_a_list_is_one_trace_through_all_processes(tmp_path: Path, redis_url: str) -> None:
    trace_id, without_ranker, unsampled = (digit * 32 for digit in "abc")
    async with running(tmp_path, redis_url) as shop:
        assert (await ask(shop, trace_id))["degraded"] == []
        spans = shop.collector.wait_for(trace_id, len(LIST))
        assert shop.collector.paths(trace_id) == sorted(LIST)

        (top,) = (one for one in spans if one.parent == CALLER)
        assert (top.service, top.name, top.kind, top.failed) == ("gateway", "POST /v1/recommendations", 2, False)
        assert top.attributes["cascade.request_id"] == "ask-aaaa"
        assert top.attributes["http.response.status_code"] == 200
        assert (top.attributes["cascade.items"], top.attributes["cascade.degraded"]) == (5, [])
        assert top.attributes["cascade.ranker.track"] == "stable"
        by_id = {one.span_id: one for one in spans}
        for one in spans:  # each within the one above it: one machine, one clock (to the millisecond)
            above = by_id.get(one.parent, one)
            assert above.began_ns - 1e6 <= one.began_ns <= one.ended_ns <= above.ended_ns + 1e6, one
        (get,) = (one for one in spans if one.name == "redis GET")
        assert get.attributes == {"db.system.name": "redis", "db.operation.name": "GET"}

        # What was measured of it names it.
        for service, name in (
            ("gateway", "cascade_request_seconds"),
            ("gateway", "cascade_stage_seconds"),
            ("retrieval", "cascade_queue_wait_seconds"),
            ("ranker", "cascade_compute_seconds"),
            ("filter", "cascade_compute_seconds"),
        ):
            url = f"http://127.0.0.1:{shop.ports[service]}/metrics"
            page = await shop.client.get(url, headers=OPENMETRICS)
            assert page.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            families = {one.name: one for one in text_string_to_metric_families(page.text)}
            named = {s.exemplar.labels["trace_id"] for s in families[name].samples if s.exemplar}
            assert named == {trace_id}, (service, name)
            assert "# {" not in (await shop.client.get(url)).text  # the older form has no place for them

        # And so does every line of the log.
        for service in SERVICES:
            (line,) = (one for one in shop.lines(service) if one.get("request_id") == "ask-aaaa")
            assert line["trace_id"] == trace_id

        # A click, off the short way: one atomic step in Redis.
        click = {"user_id": USER, "item_id": IDS[0]}
        sent = {"traceparent": f"00-{'d' * 32}-{CALLER}-01"}
        assert (await shop.client.post("/v1/interactions", json=click, headers=sent)).status_code == 202
        shop.collector.wait_for("d" * 32, 4)
        step = "gateway:POST /v1/interactions > gateway:call filter > filter:POST /v1/seen > filter:redis EVALSHA"
        assert step in shop.collector.paths("d" * 32)

        # A caller that does not collect its trace is followed in that, and its id is in the log all the same.
        await ask(shop, unsampled, "00")
        assert any(one.get("trace_id") == unsampled for one in shop.lines("ranker"))

        # A stage that is down: the trace tells which, and why.
        shop.processes["ranker"].kill()
        shop.processes["ranker"].wait()
        assert (await ask(shop, without_ranker))["degraded"] == ["ranker"]
        spans = shop.collector.wait_for(without_ranker, len(LIST) - 3)
        (top,) = (one for one in spans if one.parent == CALLER)
        assert top.attributes["cascade.degraded"] == ["ranker"]
        assert top.events == [("degraded", {"cascade.stage": "ranker", "error.type": "StageDown"})]
        failed = {one.name: one.attributes["error.type"] for one in spans if one.failed}
        assert failed == {"ranker": "StageDown", "call ranker": "NotConnected"}

        assert shop.collector.trace(unsampled) == []
        assert not any(USER.encode() in body for body in shop.collector.bodies)


async def test_in_one_process_it_is_the_same_trace(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_models(tmp_path / "models")
    (tmp_path / "none.db").touch()
    with Collector() as collector:
        variables = environment(tmp_path / "models", redis_url, tmp_path)
        variables |= {f"CASCADE_{service.upper()}_TRACING_ENDPOINT": collector.endpoint for service in SERVICES}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        app = create_app()
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
        ):
            sent = {"traceparent": f"00-{'f' * 32}-{CALLER}-01"}
            await client.post("/v1/recommendations", json={"user_id": USER, "k": 5}, headers=sent)
            await client.get("/readyz", headers=sent)  # which asks the others, and is no part of any trace
    assert collector.paths("f" * 32) == sorted(LIST)


async def test_where_nobody_listens_lists_are_answered_and_services_end(tmp_path: Path, redis_url: str) -> None:
    nowhere = {f"CASCADE_{service.upper()}_TRACING_ENDPOINT": "http://127.0.0.1:1" for service in SERVICES}
    async with running(tmp_path, redis_url, **nowhere) as shop:
        assert (await ask(shop, "e" * 32))["degraded"] == []
        shop.processes["filter"].terminate()
        assert shop.processes["filter"].wait(10) in (0, -15)


@pytest.mark.parametrize("service", SERVICES)
def test_off_nothing_of_it_is_imported_and_on_it_is_asked_for(service: str) -> None:
    make = f"{WITHOUT}from services.{service}.app import create_app; create_app(); print('made')"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
    off = subprocess.run([sys.executable, "-c", make], env=clean, capture_output=True, text=True)
    assert off.stdout == "made\n", off.stderr

    setting = f"CASCADE_{service.upper()}_TRACING_ENDPOINT"
    on = subprocess.run(
        [sys.executable, "-c", make],
        env={**clean, setting: "http://127.0.0.1:4318"},
        capture_output=True,
        text=True,
    )
    assert on.returncode != 0
    last = on.stderr.splitlines()[-1]
    assert f"NoTracing: {setting} is 'http://127.0.0.1:4318'" in last
    assert "cascade-recommender[tracing]" in last
