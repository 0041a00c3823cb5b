"""Requests and their spans, on both ways to a route, over a real collector."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from cascade import tracing
from cascade.serving.app import create_service_app
from cascade.serving.batching import MicroBatcher
from cascade.serving.errors import QueueFull
from cascade.serving.hot import Hot
from cascade.serving.limit import ConcurrencyLimit
from cascade.serving.otlp import OtlpTracer
from cascade.serving.responses import JsonResponse
from cascade.serving.settings import ServiceSettings
from tests.collector import Collector
from tests.libs.serving.short_way import short_way

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{ABOVE}-01"}


class Body(BaseModel):
    name: str


async def answer(body: Body, request: Request) -> JsonResponse:
    if body.name == "full":
        raise QueueFull("no place for u-17")
    if body.name == "bug":
        raise RuntimeError("u-17")
    with tracing.span("stage"):
        return JsonResponse({"headers": tracing.headers()})


def build(endpoint: str | None, *, hot: bool = True, trusting: bool = True, **values: object) -> FastAPI:
    router = APIRouter()
    router.post("/v1/answer")(answer)

    @router.get("/v1/users/{user_id}")
    async def user(user_id: str) -> JsonResponse:
        return JsonResponse({})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    options = ServiceSettings(_env_file=None, log_level="error", tracing_endpoint=endpoint, **values)
    return create_service_app("demo", options, lifespan, [router], hot=[Hot(answer)] if hot else (), trusting=trusting)


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Over a socket, where plain requests take the short way; when it is over, all spans are sent."""
    async with short_way(app) as (_, port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        client.headers.pop("connection")  # a plain request names none
        yield client


@pytest.mark.parametrize("hot", [True, False])
async def test_a_request_is_a_span_below_its_callers(hot: bool) -> None:
    with Collector() as collector:
        app = build(collector.endpoint, hot=hot)
        async with served(app) as client:
            sent = {**TRACEPARENT, "x-request-id": "r-1", "tracestate": "shop=1"}
            answered = await client.post("/v1/answer", json={"name": "a"}, headers=sent)
    assert ("server" in answered.headers) != hot  # which only answers by way of ASGI name
    told = answered.json()["headers"]
    top, stage = collector.trace(TRACE)
    assert (top.service, top.name, top.parent, top.kind, top.failed) == ("demo", "POST /v1/answer", ABOVE, 2, False)
    assert top.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/answer",
        "http.response.status_code": 200,
        "cascade.request_id": "r-1",
    }
    assert (stage.name, stage.parent, stage.kind) == ("stage", top.span_id, 1)
    assert told == {"traceparent": f"00-{TRACE}-{stage.span_id}-01", "tracestate": "shop=1"}


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize(
    ("name", "status", "problem", "failed"), [("full", 429, "overloaded", False), ("bug", 500, "internal", True)]
)
async def test_a_problem_stands_in_the_span_by_its_kind(
    hot: bool, name: str, status: int, problem: str, failed: bool
) -> None:
    with Collector() as collector:
        async with served(build(collector.endpoint, hot=hot)) as client:
            assert (await client.post("/v1/answer", json={"name": name}, headers=TRACEPARENT)).status_code == status
    (top,) = collector.trace(TRACE)
    assert (top.attributes["http.response.status_code"], top.failed) == (status, failed)
    assert top.attributes["cascade.problem"] == problem
    assert top.events == []  # an exception's text may hold anything
    assert not any(b"u-17" in body for body in collector.bodies)


async def test_paths_that_name_users_and_probes_leave_no_trace_of_themselves() -> None:
    with Collector() as collector:
        async with served(build(collector.endpoint)) as client:
            for path in ("/v1/users/u-17", "/u-17/nowhere", "/healthz", "/readyz", "/metrics"):
                await client.get(path)
    assert sorted(one.name for one in collector.spans) == ["GET", "GET /v1/users/{user_id}"]
    assert not any(b"u-17" in body for body in collector.bodies)


async def test_what_comes_from_the_internet_begins_a_trace_of_its_own() -> None:
    with Collector() as collector:
        async with served(build(collector.endpoint, trusting=False)) as client:
            await client.post("/v1/answer", json={"name": "a"}, headers=TRACEPARENT)
    assert collector.trace(TRACE) == []
    assert [one.parent for one in collector.spans if one.name == "POST /v1/answer"] == [""]


@pytest.mark.parametrize(("flags", "sample", "collected"), [("01", 0.0, 2), ("00", 1.0, 0)])
async def test_a_caller_that_decided_is_followed(flags: str, sample: float, collected: int) -> None:
    with Collector() as collector:
        async with served(build(collector.endpoint, tracing_sample=sample)) as client:
            sent = {"traceparent": f"00-{TRACE}-{ABOVE}-{flags}"}
            told = (await client.post("/v1/answer", json={"name": "a"}, headers=sent)).json()["headers"]
            await client.post("/v1/answer", json={"name": "a"})
    assert len(collector.trace(TRACE)) == collected
    assert len(collector.spans) == collected + 2 * int(sample)
    assert told["traceparent"].startswith(f"00-{TRACE}-")
    assert told["traceparent"].endswith(flags)


async def test_the_share_that_is_asked_for_is_collected() -> None:
    with Collector() as collector:
        tracer = OtlpTracer("demo", f"{collector.endpoint}/", 0.25)
        for _ in range(2000):
            tracer.request("POST", (), {}).end()
        await tracer.aclose()
    assert 400 < len(collector.spans) < 600


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"x"]), st.binary(max_size=80)), max_size=4))
def test_whatever_stands_in_the_headers_there_is_a_span(headers: list[tuple[bytes, bytes]]) -> None:
    span = _IDLE.request("POST", headers, {})
    told = span.headers()
    span.end()
    assert told["traceparent"].split("-")[1] == span.trace_id
    assert len(span.trace_id) == 32
    assert all("\r" not in value and "\n" not in value for value in told.values())


_IDLE = OtlpTracer("demo", "http://127.0.0.1:1", 0.0)


async def test_lines_of_the_log_name_the_trace() -> None:
    written = io.StringIO()
    with Collector() as collector, redirect_stdout(written):
        async with served(build(collector.endpoint)) as client:
            await client.post("/v1/answer", json={"name": "a"}, headers=TRACEPARENT)
    (line,) = (json.loads(one) for one in written.getvalue().splitlines() if '"route":"/v1/answer"' in one)
    assert line["trace_id"] == TRACE


async def test_a_collector_that_takes_nothing_holds_nothing_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody reads them
        tracer = OtlpTracer("demo", f"http://127.0.0.1:{silent.getsockname()[1]}", 1.0)
        tracer.request("POST", (), {}).end()
        async with asyncio.timeout(4):  # a service may take 20 s to end, and has other things to do in them
            await tracer.aclose()


async def test_a_batched_request_tells_its_wait_and_its_computing() -> None:
    with Collector() as collector:
        tracer = OtlpTracer("demo", collector.endpoint, 1.0)
        batcher: MicroBatcher[float, float] = MicroBatcher(_slow, max_size=1, queue_bound=8)

        async def one() -> None:
            with tracing.Entered(tracer.request("POST", (), {})):
                await batcher.submit(0.02)

        await asyncio.gather(one(), one())
        await batcher.aclose()
        await tracer.aclose()
    assert sorted(span.name for span in collector.spans) == ["POST", "POST", "compute", "compute", "queue", "queue"]
    seconds = sorted((s.ended_ns - s.began_ns) / 1e9 for s in collector.spans if s.name == "queue")
    assert seconds[0] < 0.02 <= seconds[1]  # the second waited while the first was computed
    assert all(s.ended_ns - s.began_ns >= 20e6 for s in collector.spans if s.name == "compute")


def _slow(batch: object) -> list[float]:
    time.sleep(0.02)
    return [0.0]


async def test_a_wait_for_a_place_is_a_span() -> None:
    with Collector() as collector:
        tracer, limit = OtlpTracer("demo", collector.endpoint, 1.0), ConcurrencyLimit(1, 1)

        async def one() -> None:
            with tracing.Entered(tracer.request("POST", (), {})):
                async with limit.slot():
                    await asyncio.sleep(0.01)

        await asyncio.gather(one(), one())
        await tracer.aclose()
    assert sorted(span.name for span in collector.spans) == ["POST", "POST", "queue"]
