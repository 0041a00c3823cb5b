"""Fixtures of the whole suite: a real Redis-compatible server, started once, emptied before each test that uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from cascade.online.server import RedisServer, free_port


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
