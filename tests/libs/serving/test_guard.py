"""Nobody who does not send the token is answered, on either way to a route. Over real sockets."""

import json
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter, Request
from pydantic import BaseModel, SecretStr, ValidationError

from cascade.serving.app import create_service_app
from cascade.serving.hot import Hot
from cascade.serving.responses import JsonResponse
from cascade.serving.settings import RedisSettings, ServiceSettings, is_guessable
from tests.libs.serving.short_way import short_way

TOKEN = "0123456789abcdef-of-these-tests"
ASKED = []


class Body(BaseModel):
    name: str


async def answer(body: Body, request: Request) -> JsonResponse:
    ASKED.append(body.name)
    return JsonResponse({"name": body.name})


async def cold(body: Body, request: Request) -> JsonResponse:
    return await answer(body, request)


def app(**options):
    router = APIRouter()
    router.post("/v1/hot")(answer)
    router.post("/v1/cold")(cold)

    @asynccontextmanager
    async def lifespan(_):
        yield

    cors = options.pop("cors_origins", ())
    settings = ServiceSettings(log_level="error", **options)
    return create_service_app("guarded", settings, lifespan, [router], hot=[Hot(answer)], cors_origins=cors)


@pytest.fixture
def serve_app():
    """A client of an app in a server with the short way."""

    @asynccontextmanager
    async def serving(application):
        async with (
            short_way(application) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            yield client

    return serving


def bearer(text):
    return {"authorization": f"Bearer {text}"}


WRONG = [
    {},
    {"authorization": "Bearer"},
    bearer(TOKEN[:-1]),
    bearer(TOKEN + "x"),
    {"authorization": f"Basic {TOKEN}"},
    bearer("ä"),
]


@pytest.mark.parametrize("path", ["/v1/hot", "/v1/cold"])
@pytest.mark.parametrize("way", ["direct", "asgi"])
async def test_the_token_lets_in_and_nothing_else_does(path, way, serve_app):
    ASKED.clear()
    extra = {} if way == "direct" else {"te": "trailers"}  # unusual: left to the server's own parser
    async with serve_app(app(internal_token=SecretStr(TOKEN))) as client:
        for headers in WRONG:
            raw = {k: v.encode("latin-1") for k, v in {**headers, **extra}.items()}
            refused = await client.post(path, json={"name": "a"}, headers=raw)
            assert (refused.status_code, refused.json()["type"]) == (401, "urn:cascade:problem:unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.headers["x-content-type-options"] == "nosniff"
            assert TOKEN not in refused.text
        assert ASKED == []
        for scheme in ("Bearer", "bearer"):
            done = await client.post(path, json={"name": "b"}, headers={"authorization": f"{scheme} {TOKEN}", **extra})
            assert done.json() == {"name": "b"}
        assert ASKED == ["b", "b"]


async def test_a_refused_body_is_not_read(serve_app):
    async with serve_app(app(internal_token=SecretStr(TOKEN))) as client:
        for content in (b"{" * 5000, b"not JSON"):
            assert (await client.post("/v1/hot", content=content)).status_code == 401
            assert (await client.post("/v1/cold", content=content)).status_code == 401


@pytest.mark.parametrize(("profile", "metrics", "docs"), [("local", 200, 200), ("production", 401, 404)])
async def test_what_is_open(profile, metrics, docs, serve_app):
    async with serve_app(app(internal_token=SecretStr(TOKEN), profile=profile)) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics")).status_code == metrics
        assert (await client.get("/metrics", headers=bearer(TOKEN))).status_code == 200
        assert (await client.get("/docs", headers=bearer(TOKEN))).status_code == docs
        assert (await client.get("/nothing")).status_code == 401


async def test_without_a_token_everybody_is_let_in(serve_app):
    async with serve_app(app()) as client:
        assert (await client.post("/v1/hot", json={"name": "a"})).status_code == 200


async def test_cors_is_off_unless_an_origin_is_named(serve_app):
    origin = {"origin": "https://shop.example"}
    asks = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with serve_app(app()) as client:
        done = await client.post("/v1/hot", json={"name": "a"}, headers=origin)
        assert done.status_code == 200
        assert not [name for name in done.headers if name.startswith("access-control")]
        assert (await client.options("/v1/hot", headers=asks)).status_code == 405
    async with serve_app(app(cors_origins=["https://shop.example"], internal_token=SecretStr(TOKEN))) as client:
        asked = await client.options("/v1/hot", headers=asks)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://shop.example")
        done = await client.post("/v1/hot", json={"name": "a"}, headers={**origin, **bearer(TOKEN)})
        assert done.headers["access-control-allow-origin"] == "https://shop.example"
        other = await client.post(
            "/v1/hot", json={"name": "a"}, headers={"origin": "https://x.example", **bearer(TOKEN)}
        )
        assert "access-control-allow-origin" not in other.headers


class WithRedis(ServiceSettings, RedisSettings):
    pass


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "internal_token is missing"),
        ({"internal_token": "change-me-please-now"}, "internal_token can be guessed"),
        ({"internal_token": "a" * 32}, "internal_token can be guessed"),
        ({"internal_token": TOKEN, "redis_url": "redis://127.0.0.1:8379/0"}, "redis_url names no password"),
    ],
)
def test_production_refuses_to_start_without_secrets(values, told):
    with pytest.raises(ValidationError, match=told) as error:
        WithRedis(_env_file=None, profile="production", **values)
    for secret in ("change-me-please-now", "aaaaaaaaaa", TOKEN):
        assert secret not in str(error.value)
    WithRedis(_env_file=None, **values)


def test_production_starts_with_them():
    settings = WithRedis(
        _env_file=None, profile="production", internal_token=TOKEN, redis_url="redis://:p4ss@redis:6379/0"
    )
    assert settings.in_production
    assert TOKEN not in json.dumps(settings.model_dump(mode="json"))


def test_what_can_be_guessed():
    assert is_guessable("CHANGEME-0123456789")
    assert not is_guessable("6f1d0a52c3b94e78")
