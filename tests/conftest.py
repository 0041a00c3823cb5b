"""Fixtures of the whole suite: a real Redis-compatible server, and apps behind a client without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
import redis
from fastapi import FastAPI

from cascade.online.server import RedisServer, free_port

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
OpenApp = Callable[[FastAPI], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's server. A test that stops servers starts one of its own."""
    with RedisServer(tmp_path_factory.mktemp("redis"), free_port(), appendfsync="no") as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty database."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def open_app() -> OpenApp:
    """Runs an app's lifespan and gives a client that calls it in this process."""

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield client

    return opened


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds; the limit is far beyond any machine's slowness."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110  (the conditions are those of objects without events)
                await asyncio.sleep(0.002)

    return wait
