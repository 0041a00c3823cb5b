"""Fixtures of the whole suite: a real Redis-compatible server, and apps behind a client without a network."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager

import httpx
import pytest
import redis
from fastapi import FastAPI

from cascade.online.server import RedisServer, free_port

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
RunService = Callable[[str, Mapping[str, str]], AbstractContextManager[httpx.Client]]
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


@pytest.fixture
def run_service() -> RunService:
    """Runs `python -m services.<name>` until it is ready, and afterwards holds it to an orderly end and a JSON log."""

    @contextmanager
    def running(name: str, environment: Mapping[str, str]) -> Iterator[httpx.Client]:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"],
            env={**os.environ, f"CASCADE_{name.upper()}_PORT": str(port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                _wait_until_ready(client, process)
                yield client
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode in (0, -signal.SIGTERM)
        lines = output.decode().splitlines()
        assert all(line.startswith("{") for line in lines), output.decode()
        assert any('"route":"/v1/' in line for line in lines)

    return running


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service ended"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)
    raise AssertionError("the service did not become ready")
