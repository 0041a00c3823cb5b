from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import StreamingResponse
from structlog.testing import capture_logs

from cascade.api.filter import FilterRequest
from cascade.api.problems import MEDIA_TYPE
from cascade.online.errors import OnlineStoreDown
from cascade.serving.app import create_service_app
from cascade.serving.context import current_request_id
from cascade.serving.errors import Closed, ModelFault, NotReady, QueueFull, ServingError, UnknownItem
from cascade.serving.metrics import CONTENT_TYPE, OPENMETRICS_TYPE
from cascade.serving.problems import Problem
from cascade.serving.settings import ServiceSettings

LIMIT = 2048


class Teapot(ServingError):
    pass


ERRORS: dict[str, Exception] = {
    "full": QueueFull("256 wait", retry_after_s=1.2),
    "starting": NotReady("no bundle yet", retry_after_s=2),
    "closed": Closed("shutting down"),
    "store": OnlineStoreDown("Error 111 connecting to 10.0.0.1:6379"),
    "item": UnknownItem("no item 'x'"),
    "model": ModelFault("NaN"),
    "own": Teapot("short and stout"),
    "defect": RuntimeError("secret in /srv/place"),
}


def build(name: str = "demo", **options: Any) -> FastAPI:
    router = APIRouter()

    @router.post("/v1/echo")
    async def echo(body: FilterRequest) -> dict[str, str | None]:
        return {"user_id": body.user_id, "request_id": current_request_id()}

    @router.get("/v1/things/{thing_id}")
    async def thing(thing_id: int) -> dict[str, int]:
        return {"thing": thing_id}

    @router.delete("/v1/things/{thing_id}")
    async def remove(thing_id: int) -> dict[str, int]:
        return {"thing": thing_id}

    @router.get("/v1/fail/{kind}")
    async def fail(kind: str) -> None:
        raise ERRORS[kind]

    @router.get("/v1/breaks")
    async def breaks() -> StreamingResponse:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("in the middle")

        return StreamingResponse(half())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.open = True
        yield
        app.state.open = False

    settings = ServiceSettings(max_body_bytes=LIMIT, ready_timeout_s=0.05)
    problems = {Teapot: lambda error: Problem("teapot", 418, "I'm a teapot", str(error))}
    return create_service_app(name, settings, lifespan, [router], problems=problems, **options)


@pytest.fixture
async def client(open_app: Any) -> AsyncIterator[httpx.AsyncClient]:
    opened: AbstractAsyncContextManager[httpx.AsyncClient] = open_app(build())
    async with opened as client:
        yield client


def problem(response: httpx.Response, kind: str, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:cascade:problem:{kind}"
    assert body["status"] == status
    assert body["instance"] == response.request.url.path
    assert body["request_id"] == response.headers["x-request-id"]
    return body


async def test_a_sane_request_id_travels_and_another_is_replaced(client: httpx.AsyncClient) -> None:
    body = {"user_id": "u", "item_ids": []}
    given = await client.post("/v1/echo", json=body, headers={"x-request-id": "abc-1.2_3:4"})
    assert given.headers["x-request-id"] == given.json()["request_id"] == "abc-1.2_3:4"
    for wrong in ("", "a b", 'x"}', "ä".encode("latin-1"), "x" * 129):
        made = await client.post("/v1/echo", json=body, headers={"x-request-id": wrong})
        assert made.headers["x-request-id"] == made.json()["request_id"]
        assert len(made.json()["request_id"]) == 32
    assert current_request_id() is None


async def test_every_field_at_fault_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/echo", json={"item_ids": ["ok", "", 7], "extra": [1]})
    errors = problem(response, "validation", 422)["errors"]
    assert [error["field"] for error in errors] == ["user_id", "item_ids.1", "item_ids.2", "extra"]
    assert errors[1]["value"] == ""
    assert errors[2]["value"] == 7
    assert "value" not in errors[3]  # not a plain value
    path = problem(await client.get("/v1/things/seven"), "validation", 422)["errors"]
    assert [(error["field"], error["value"]) for error in path] == [("thing_id", "seven")]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"", 422),
        (b"null", 422),
        (b"\xff\xfe", 422),
        (b"\xc3\x28", 400),
        (b'{"user_id": "a\\ud800", "item_ids": []}', 422),
        (b'{"user_id": "u", "item_ids": [], "\\ud800": 1}', 422),
        (b'{"user_id": 1e999, "item_ids": NaN}', 422),
        (b'{"user_id": 123456789012345678901234567890, "item_ids": []}', 422),
        (b'{"user_id": "' + b"y" * 1000 + b'", "item_ids": []}', 422),
        (b"[" * 2000, 400),
        (b'{"user_id": "u", "item_ids": ' + json.dumps([0] * 500).encode() + b"}", 422),
    ],
)
async def test_hostile_bodies_are_answered_in_bounds(client: httpx.AsyncClient, content: bytes, status: int) -> None:
    response = await client.post("/v1/echo", content=content, headers={"content-type": "application/json"})
    body = problem(response, "validation" if status == 422 else "bad-request", status)
    assert len(response.content) < 8000
    assert len(body.get("errors", [])) <= 20


async def test_bodies_beyond_the_limit_are_refused_declared_or_not(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    problem(await client.post("/v1/echo", content=b" " * (LIMIT + 1), headers=headers), "body-too-large", 413)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // 100 + 1):
            yield b" " * 100

    problem(await client.post("/v1/echo", content=chunks(), headers=headers), "body-too-large", 413)
    fits = json.dumps({"user_id": "u", "item_ids": []}).encode().ljust(LIMIT)
    assert (await client.post("/v1/echo", content=fits, headers=headers)).status_code == 200


async def test_unknown_routes_and_methods(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/nothing"), "not-found", 404)
    response = await client.get("/v1/echo")
    problem(response, "method-not-allowed", 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("kind", "name", "status", "retry"),
    [
        ("full", "overloaded", 429, "2"),
        ("starting", "unavailable", 503, "2"),
        ("closed", "unavailable", 503, "1"),
        ("store", "store-down", 503, "1"),
        ("item", "unknown-item", 404, None),
        ("model", "model-fault", 500, None),
        ("own", "teapot", 418, None),
        ("defect", "internal", 500, None),
    ],
)
async def test_errors_become_problems(
    client: httpx.AsyncClient, kind: str, name: str, status: int, retry: str | None
) -> None:
    with capture_logs() as logs:
        response = await client.get(f"/v1/fail/{kind}")
    problem(response, name, status)
    assert response.headers.get("retry-after") == retry
    if status >= 500:  # the log says what the caller is not told
        assert any(str(ERRORS[kind]) in str(entry.get("error", entry.get("exc_info", ""))) for entry in logs) or any(
            entry["event"] == "unhandled error" for entry in logs
        )
    assert "10.0.0.1" not in response.text
    assert "/srv" not in response.text
    assert f'cascade_errors_total{{kind="{name}",service="demo"}} 1.0' in (await client.get("/metrics")).text


async def test_an_error_after_the_first_byte_breaks_the_response(client: httpx.AsyncClient) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), capture_logs():
        await client.get("/v1/breaks")


async def test_health_readiness_and_versions(open_app: Any) -> None:
    reasons: dict[str, str | None] = {"store": None}

    async def store(app: FastAPI) -> str | None:
        assert app.state.open
        return reasons["store"]

    async def slow(_app: FastAPI) -> str | None:
        if reasons.get("slow"):
            await asyncio.sleep(60)
        return None

    async def defect(_app: FastAPI) -> str | None:
        if reasons.get("defect"):
            raise RuntimeError("secret")
        return None

    app = build(checks={"store": store, "slow": slow, "defect": defect}, versions=lambda _: {"stable": "v1"})
    async with open_app(app) as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json() == {
            "status": "ready",
            "checks": {"store": "ok", "slow": "ok", "defect": "ok"},
            "versions": {"stable": "v1"},
        }
        reasons.update(store="is away", slow="yes", defect="yes")
        with capture_logs():
            errors = problem(await client.get("/readyz"), "not-ready", 503)["errors"]
        assert [(error["field"], error["message"]) for error in errors] == [
            ("store", "is away"),
            ("slow", "did not answer within 0.05 s"),
            ("defect", "the check itself failed; the log says why"),
        ]
        assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert app.state.open is False


async def test_reports_are_told_and_decide_nothing(open_app: Any) -> None:
    async def fine(_app: FastAPI) -> dict[str, str]:
        return {"redis": "down"}

    async def slow(_app: FastAPI) -> str:
        await asyncio.sleep(60)
        return "never"

    async def defect(_app: FastAPI) -> str:
        raise RuntimeError("secret")

    app = build(reports={"dependencies": fine, "slow": slow, "defect": defect})
    async with open_app(app) as client:
        with capture_logs() as logs:
            answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "checks": {},
        "dependencies": {"redis": "down"},
        "slow": None,
        "defect": None,
    }
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["readiness report failed"]


async def test_requests_are_counted_by_route_template(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await client.get(f"/v1/things/{number}")
    await client.get("/v1/nothing")
    await client.request("BREW", "/v1/things/1")
    text = (await client.get("/metrics")).text
    count = 'cascade_requests_total{method="%s",route="%s",service="demo",status="%d"}'
    assert f"{count % ('GET', '/v1/things/{thing_id}', 200)} 3.0" in text
    assert f"{count % ('GET', 'unmatched', 404)} 1.0" in text
    assert f"{count % ('OTHER', '/v1/things/{thing_id}', 405)} 1.0" in text
    assert 'cascade_request_seconds_count{route="/v1/things/{thing_id}",service="demo"} 4.0' in text
    assert "process_resident_memory_bytes" in text


async def test_each_request_is_logged_once_with_its_id_and_probes_quietly(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.get("/v1/things/1", headers={"x-request-id": "r1"})
        await client.get("/healthz")
    assert [(entry["route"], entry["status"], entry["log_level"]) for entry in logs] == [
        ("/v1/things/{thing_id}", 200, "info"),
    ]  # probes are logged at debug


async def test_two_apps_in_one_process_keep_apart(open_app: Any) -> None:
    async with open_app(build("one")) as one, open_app(build("two")) as two:
        await one.get("/v1/things/1")
        assert 'service="two"' not in (await one.get("/metrics")).text
        assert "/v1/things" not in (await two.get("/metrics")).text


async def test_the_openapi_document_declares_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/v1/echo"]["post"]["responses"]
    assert set(responses) == {"200", "422", "default"}
    assert list(responses["422"]["content"]) == [MEDIA_TYPE]


async def test_a_wrong_method_is_told_all_that_the_path_takes(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/things/1")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET"
    assert answer.headers["content-type"] == MEDIA_TYPE


def test_the_openapi_document_leads_nowhere_by_reference_and_knows_the_metrics_page() -> None:
    document = build().openapi()
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    for reference in references:
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
    told = document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert list(told) == [CONTENT_TYPE, OPENMETRICS_TYPE]
