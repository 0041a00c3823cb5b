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
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import structlog
from fastapi import FastAPI

from cascade.features.popularity import Popularity
from cascade.online.server import RedisServer, free_port
from cascade.serving.logging import configure_logging
from cascade.store import ModelStore
from cascade.store.artifacts import GatewayArtifacts

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
RunService = Callable[[str, Mapping[str, str]], AbstractContextManager[httpx.Client]]
OpenApp = Callable[[FastAPI], AbstractAsyncContextManager[httpx.AsyncClient]]


def pytest_configure() -> None:
    """Loggers that keep no configuration: whichever test makes one first would decide for all."""
    configure_logging("info")
    structlog.configure(cache_logger_on_first_use=False)


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
            env={
                **os.environ,
                f"CASCADE_{name.upper()}_PORT": str(port),
                f"CASCADE_{name.upper()}_ACCESS_LOG": "true",
                **environment,
            },
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


_APPLY = """
import pyarrow as pa, pyarrow.parquet as pq
from cascade.features.point_in_time import ONLINE_SCHEMA
from cascade.online.feast_config import feature_store
from cascade.settings import Settings
from feature_repo import definitions

folder = Settings().feast_dir.absolute()
(folder / "offline").mkdir(parents=True)
profile = pa.schema([("user_id", pa.string()), ("age", pa.float64()), ("gender", pa.string()), ONLINE_SCHEMA[2]])
pq.write_table(profile.empty_table(), folder / "offline" / "user_profile.parquet")
pq.write_table(ONLINE_SCHEMA.empty_table(), folder / "offline" / "user_activity.parquet")
store = feature_store(folder / "registry.db", "redis://127.0.0.1:1/0")
store.apply([definitions.user, definitions.user_profile, definitions.user_activity, definitions.activity_push])
"""


@pytest.fixture(scope="session")
def feast_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that knows the project's views, with empty offline files beside it."""
    state = tmp_path_factory.mktemp("feast")
    # a process of its own: the definitions take their paths from the settings when they are imported
    environment = {**os.environ, "CASCADE_STATE_DIR": str(state)}
    subprocess.run([sys.executable, "-c", _APPLY], env=environment, check=True, capture_output=True)
    return state / "feast" / "registry.db"


@dataclass(frozen=True)
class LiveShop:
    """A shop of twelve items i0 to i11 in three categories c0, c1, c2, turn about, that live traffic comes into."""

    dataset: Path
    model_store: Path
    registry: Path

    ITEMS = 12

    def environment(self, redis_url: str, **settings: object) -> dict[str, str]:
        """Of a features worker."""
        values: dict[str, object] = {
            "redis_url": redis_url,
            "dataset": self.dataset,
            "model_store": self.model_store,
            "feast_registry": self.registry,
            **settings,
        }
        return {f"CASCADE_FEATURES_{name.upper()}": str(value) for name, value in values.items()}

    def live(self, table: str = "interactions") -> list[dict[str, Any]]:
        """Every row of every live file."""
        files = sorted((self.dataset / table).glob("date=*/live-*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.fixture
def live_shop(tmp_path: Path, feast_registry: Path) -> LiveShop:
    """Its dataset has no interactions yet, its model store the gateway's bundle."""
    count = LiveShop.ITEMS
    items = pa.table(
        {
            "item_id": [f"i{number}" for number in range(count)],
            "title": [f"Item {number}" for number in range(count)],
            "description": [""] * count,
            "category_l1": [f"c{number % 3}" for number in range(count)],
            "category_l2": ["style"] * count,
            "price": [1.0 + number for number in range(count)],
            "gender": pa.array([None] * count, pa.string()),
            "image": pa.array([None] * count, pa.string()),
        }
    )
    shop = LiveShop(tmp_path / "shop", tmp_path / "models", feast_registry)
    shop.dataset.mkdir()
    pq.write_table(items, shop.dataset / "items.parquet")
    pq.write_table(pa.table({"user_id": ["u0"], "age": [30], "gender": ["F"]}), shop.dataset / "users.parquet")
    models = ModelStore(shop.model_store)
    bundle = GatewayArtifacts.from_catalog(items, Popularity((), {}, {}))
    version = models.write("gateway", bundle.save, training_days=[date(2026, 1, 5)]).version
    models.set_alias("gateway", "stable", version)
    return shop
