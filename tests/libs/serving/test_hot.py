"""A hot route answers as FastAPI's own does, whatever it is sent."""

from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from cascade.serving.app import create_service_app
from cascade.serving.errors import QueueFull
from cascade.serving.hot import Hot, hot_routes
from cascade.serving.responses import JsonResponse
from cascade.serving.settings import ServiceSettings


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=5)
    counts: list[int] = []
    share: float = Field(0.5, ge=0, le=1)


async def answer(body: Body, request: Request) -> JsonResponse:
    if body.name == "full":
        raise QueueFull("no place")
    if body.name == "bug":
        raise RuntimeError("secret")
    return JsonResponse({"name": body.name, "counts": body.counts, "service": request.app.title})


def app(hot: bool):
    router = APIRouter()
    router.post("/v1/answer", response_model=Body)(answer)

    @asynccontextmanager
    async def lifespan(_):
        yield

    options = ServiceSettings(max_body_bytes=2048, log_level="error")
    return create_service_app("test", options, lifespan, [router], hot=[Hot(answer)] if hot else [])


HOT, PLAIN = app(True), app(False)


async def both(content, headers=None):
    answers = []
    for one in (HOT, PLAIN):
        transport = httpx.ASGITransport(one, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            sent = {"content-type": "application/json", "x-request-id": "r", **(headers or {})}
            answers.append(await client.post("/v1/answer", content=content, headers=sent))
    return answers


def same(hot, plain):
    assert (hot.status_code, hot.headers.get("retry-after")) == (plain.status_code, plain.headers.get("retry-after"))
    assert hot.headers["content-type"] == plain.headers["content-type"]
    assert hot.headers["x-request-id"] == plain.headers["x-request-id"] == "r"
    return hot.json(), plain.json()


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": "a"}',
        b'{"name": "a", "counts": [1, 2], "share": 1}',
        b'{"name": ""}',
        b'{"name": "much too long"}',
        b'{"name": "a", "other": 1}',
        b'{"counts": ["x"], "share": 2}',
        b'{"name": "full"}',
        b'{"name": "bug"}',
        b'{"name": "' + b"x" * 4000 + b'"}',
    ],
)
async def test_the_same_answer_as_fastapi_gives(content):
    hot, plain = same(*await both(content))
    assert hot == plain


@pytest.mark.parametrize("content", [b"[]", b"null", b"7", b"", b"{", b'{"name": "\xff"}', b"[" * 1500])
async def test_what_is_no_json_object_is_told(content):
    hot, _ = await both(content)
    assert hot.status_code == 422
    assert hot.json()["errors"][0]["field"] == "body"


@given(
    name=st.text(max_size=7),
    counts=st.lists(st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3), max_size=3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_body_is_judged_alike(name, counts):
    import json

    hot, plain = await both(json.dumps({"name": name, "counts": counts}).encode())
    assert hot.status_code == plain.status_code
    if hot.status_code == 200:
        assert hot.json() == plain.json()


async def test_it_is_documented_counted_and_bound_to_its_method():
    transport = httpx.ASGITransport(HOT)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert "/v1/answer" in (await client.get("/openapi.json")).json()["paths"]
        assert (await client.get("/v1/answer")).status_code == 405
        assert (await client.post("/v1/answer", json={"name": "a"})).status_code == 200
        assert 'route="/v1/answer"' in (await client.get("/metrics")).text


def test_only_routes_can_be_hot():
    with pytest.raises(ValueError, match="no POST route"):
        hot_routes([APIRouter()], [Hot(answer)])
