"""One connection for all requests: answers find their askers, and trouble is that request's alone."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError, ResponseError

from cascade.online.errors import OnlineError, OnlineStoreDown
from cascade.online.interactions import Event, Interactions
from cascade.online.server import RedisServer, free_port
from cascade.online.shared_connection import SharedConnection, can_share


@pytest.fixture
async def shared(redis_url: str) -> AsyncIterator[SharedConnection]:
    shared = SharedConnection(redis_url, timeout_s=10)
    yield shared
    await shared.aclose()


async def test_everyone_gets_their_own_answer(shared: SharedConnection, redis_url: str) -> None:
    values = {f"k{number}": os.urandom(number * 37 % 9000) for number in range(300)}
    with redis.Redis.from_url(redis_url) as client:
        client.mset(values)
        asked = [*values, "missing", *values]
        answers = await asyncio.gather(*map(shared.get, asked))
        assert answers == [values.get(key) for key in asked]
        assert len(client.client_list(_type="normal")) == 2, "this client and one connection"


async def test_who_leaves_disturbs_nobody(shared: SharedConnection, redis_url: str) -> None:
    rng = random.Random(7)  # noqa: S311
    with redis.Redis.from_url(redis_url) as client:
        client.mset({f"k{number}": number for number in range(200)})
    for _ in range(20):
        tasks = [asyncio.create_task(shared.get(f"k{number}")) for number in range(200)]
        await asyncio.sleep(0)
        gone = set(rng.sample(range(200), 60))
        for number in gone:
            tasks[number].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answers[number] == str(number).encode() for number in set(range(200)) - gone)


async def test_a_refused_command_is_told_and_the_next_one_answered(shared: SharedConnection, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("list", "x")
        client.set("string", "y")
    refused, answered = await asyncio.gather(shared.get("list"), shared.get("string"), return_exceptions=True)
    assert isinstance(refused, ResponseError)
    assert "WRONGTYPE" in str(refused)
    assert answered == b"y"


async def test_database_and_password_of_the_url(tmp_path: Path) -> None:
    with RedisServer(tmp_path, free_port()) as server, redis.Redis(port=server.port, db=3) as admin:
        admin.set("k", "in 3")
        admin.config_set("requirepass", "p@ss word")
        right = SharedConnection(f"redis://:p%40ss%20word@127.0.0.1:{server.port}/3", timeout_s=10)
        wrong = SharedConnection(f"redis://:other@127.0.0.1:{server.port}/3", timeout_s=10)
        assert await right.get("k") == b"in 3"
        for _ in range(2):
            with pytest.raises(ResponseError, match="WRONGPASS"):
                await wrong.get("k")
        await right.aclose()
        await wrong.aclose()


async def test_a_restart_fails_what_was_asked_and_nothing_after_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    shared = SharedConnection(server.url, timeout_s=10)
    try:
        assert await shared.get("k") is None
        await asyncio.to_thread(server.stop)
        for _ in range(2):
            with pytest.raises((RedisError, OSError)):
                await shared.get("k")
        await asyncio.to_thread(server.start)
        assert await asyncio.gather(*(shared.get("k") for _ in range(16))) == [None] * 16
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert await asyncio.gather(*(shared.get("k") for _ in range(16))) == [None] * 16
    finally:
        await shared.aclose()
        server.stop()


async def test_a_server_that_hangs_costs_the_time_limit_and_is_asked_anew(tmp_path: Path) -> None:
    with RedisServer(tmp_path, free_port()) as server:
        shared = SharedConnection(server.url, timeout_s=1.0)
        assert await shared.get("k") is None
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            waiting = [asyncio.create_task(shared.get("k")) for _ in range(5)]
            await asyncio.sleep(0.1)
            waiting.append(asyncio.create_task(shared.get("k")))
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(answer, TimeoutError) for answer in answers), answers
        finally:
            os.kill(server.pid, signal.SIGCONT)
        generous = SharedConnection(server.url, timeout_s=10)
        assert await generous.get("k") is None, "it is back"
        assert await shared.get("k") is None
        await shared.aclose()
        await generous.aclose()


async def test_after_it_was_closed_it_may_be_used_again(shared: SharedConnection) -> None:
    await shared.aclose()
    assert await shared.get("k") is None
    await shared.aclose()
    assert await shared.get("k") is None


async def test_errors_of_a_shared_reader_are_the_stores(redis_url: str) -> None:
    shared = SharedConnection(f"redis://127.0.0.1:{free_port()}/0", timeout_s=1)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        interactions = Interactions(client, reader=shared)
        await interactions.record(Event("u", "i", 1, "click"))
        with pytest.raises(OnlineStoreDown, match="reading seen items"):
            await interactions.unseen("u", ["i"])
    await shared.aclose()


@pytest.mark.parametrize(
    ("url", "shareable"),
    [
        ("redis://127.0.0.1:6379/0", True),
        ("redis://user:word@cache", True),
        ("rediss://cache", False),
        ("unix:///run/redis.sock", False),
        ("redis://cache?health_check_interval=3", False),
    ],
)
def test_plain_urls_can_be_shared(url: str, shareable: bool) -> None:
    assert can_share(url) is shareable
    if not shareable:
        with pytest.raises(OnlineError, match="pool"):
            SharedConnection(url)
