"""The internal endpoint: only with its token, only where there is one, and never in the documentation."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from cascade.serving.app import create_service_app
from cascade.serving.internal import REFRESH_PATH, refresh_of, refresh_router, refreshed_by
from cascade.serving.reload import BundleHolder
from cascade.serving.settings import ServiceSettings
from cascade.store import ModelStore

TOKEN = "a-token-of-some-length"
RIGHT = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def publish(store: ModelStore, text: str) -> str:
    version = store.write("demo", lambda folder: _write(folder, text), training_days=[]).version
    store.set_alias("demo", "stable", version)
    return version


def _write(folder: Path, text: str) -> None:
    (folder / "text").write_text(text)


def load(folder: Path) -> str:
    text = (folder / "text").read_text()
    if text == "broken":
        raise ValueError("cannot load this")
    return text


def build(store: ModelStore, token: str | None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        holder = BundleHolder(store, "demo", "stable", load, poll_s=3600)
        refreshed_by(app, refresh_of(holder))
        await holder.start()
        yield
        await holder.aclose()

    router = refresh_router(None if token is None else SecretStr(token))
    return create_service_app("demo", ServiceSettings(), lifespan, [router])


async def test_a_service_looks_when_told(store: ModelStore, open_app: Any) -> None:
    async with open_app(build(store, TOKEN)) as client:

        async def told() -> Any:
            answer = await client.post(REFRESH_PATH, headers=RIGHT)
            assert answer.status_code == 200
            return answer.json()["bundles"]["demo"]

        assert await told() == {"version": None, "changed": False, "refused": None}
        version = publish(store, "first")
        assert await told() == {"version": version, "changed": True, "refused": None}
        assert await told() == {"version": version, "changed": False, "refused": None}
        broken = publish(store, "broken")
        for _ in range(2):  # tried again each time it is told, whatever its own patience
            refused = await told()
            assert (refused["version"], refused["changed"]) == (version, False)
            assert refused["refused"] == f"{broken}: ValueError: cannot load this"
        store.set_alias("demo", "stable", version)
        assert (await told())["refused"] is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": TOKEN}, {"authorization": "Bearer "}, {"authorization": f"Bearer {TOKEN}x"}, {"x": TOKEN}],
)
async def test_without_the_token_nothing_happens(store: ModelStore, open_app: Any, headers: dict[str, str]) -> None:
    app = build(store, TOKEN)
    async with open_app(app) as client:
        publish(store, "first")
        answer = await client.post(REFRESH_PATH, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        assert TOKEN not in answer.text
        assert (await client.post(REFRESH_PATH, headers=RIGHT)).json()["bundles"]["demo"]["changed"]


async def test_a_token_of_strange_letters_is_a_wrong_one(store: ModelStore, open_app: Any) -> None:
    async with open_app(build(store, TOKEN)) as client:
        answer = await client.post(REFRESH_PATH, headers={"authorization": "Bearer \xe9\xff".encode("latin-1")})
        assert answer.status_code == 401


async def test_where_no_token_is_set_there_is_no_endpoint(store: ModelStore, open_app: Any) -> None:
    async with open_app(build(store, None)) as client:
        for headers in ({}, {"authorization": "Bearer None"}, {"authorization": "Bearer "}):
            assert (await client.post(REFRESH_PATH, headers=headers)).status_code == 404


async def test_it_is_documented_nowhere_and_only_posted_to(store: ModelStore, open_app: Any) -> None:
    async with open_app(build(store, TOKEN)) as client:
        assert "internal" not in (await client.get("/openapi.json")).text
        assert (await client.get(REFRESH_PATH, headers=RIGHT)).status_code == 405


@pytest.mark.parametrize("token", ["", "feeble"])
def test_an_unsafe_token_is_refused_at_start(token: str) -> None:
    with pytest.raises(ValidationError, match="internal_token") as error:
        ServiceSettings(internal_token=SecretStr(token))
    assert token == "" or token not in str(error.value)


def test_the_token_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    settings = ServiceSettings(internal_token=SecretStr(TOKEN))
    logging.getLogger(__name__).warning("%r", settings)
    assert TOKEN not in caplog.text + str(settings)
