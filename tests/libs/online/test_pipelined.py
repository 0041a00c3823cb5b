"""Reads that share a connection, against a real Redis and against servers that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis
import uvloop
from redis.exceptions import NoScriptError

from cascade.online.errors import OnlineStoreDown
from cascade.online.pipelined import PipelinedRedis
from cascade.online.server import RedisServer, free_port


async def test_many_at_once_each_get_their_own_answer(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.mset({f"k{n}": f"v{n}" for n in range(200)})
        client.hset("h", mapping={"a": "1", "b": "2"})
        reader = PipelinedRedis(redis_url, 5)
        found = await asyncio.gather(*(reader.execute("GET", f"k{n}") for n in range(201)))
        assert found == [*(f"v{n}".encode() for n in range(200)), None]
        assert await reader.execute("HMGET", "h", "a", "x", "b") == [b"1", None, b"2"]
        assert await reader.execute("STRLEN", b"k10") == 3
        assert client.info("clients")["connected_clients"] == 2
    await reader.aclose()


async def test_commands_sent_together_are_answered_in_order_and_fail_together(redis_url: str) -> None:
    redis_ = PipelinedRedis(redis_url, 5)
    commands = [("RPUSH", "list", number) for number in range(50)]
    assert await redis_.execute_all(commands) == list(range(1, 51))
    with pytest.raises(OnlineStoreDown, match="INCR: WRONGTYPE"):
        await redis_.execute_all([("SET", "k", "v"), ("INCR", "list"), ("INCR", "list"), ("SET", "l", "w")])
    assert await redis_.execute_all([("GET", "k"), ("GET", "l")]) == [b"v", b"w"]
    assert await redis_.execute_all([]) == []
    await redis_.aclose()
    with pytest.raises(OnlineStoreDown):
        await PipelinedRedis("redis://127.0.0.1:1/0", 1).execute_all(commands)


def test_it_works_on_uvloop_too(redis_url: str) -> None:
    async def both() -> list[object]:
        reader = PipelinedRedis(redis_url, 5)
        try:
            return [await reader.execute("SET", "k", "v"), await reader.execute("GET", "k")]
        finally:
            await reader.aclose()

    assert uvloop.run(both()) == [b"OK", b"v"]


async def test_a_command_that_redis_refuses_harms_no_other(redis_url: str) -> None:
    reader = PipelinedRedis(redis_url, 5)
    await reader.execute("SET", "k", "v")
    with pytest.raises(OnlineStoreDown, match="LRANGE: WRONGTYPE"):
        await reader.execute("LRANGE", "k", 0, 1)
    assert await reader.execute("GET", "k") == b"v"
    await reader.aclose()


async def test_scripts(redis_url: str) -> None:
    redis_ = PipelinedRedis(redis_url, 5)
    script, sha = "return {KEYS[1], ARGV[1]}", "c1a0b4a3d4b1d2ee29ecaa4f4d6d1b5a5c3e7d11"
    with pytest.raises(NoScriptError):
        await redis_.evalsha(sha, 1, "k", "v")
    assert await redis_.eval(script, 1, "k", "v") == [b"k", b"v"]
    known = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    assert await redis_.evalsha(known, 1, "k", "w") == [b"k", b"w"]
    with pytest.raises(OnlineStoreDown, match="EVAL: ERR"):
        await redis_.eval("this is not Lua", 0)
    await redis_.aclose()


async def test_a_server_that_comes_back_is_found_again(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port(), appendfsync="no")
    reader = PipelinedRedis(server.url, 2)
    with pytest.raises(OnlineStoreDown, match="connecting"):
        await reader.execute("PING")
    with server:
        assert await reader.execute("PING") == b"PONG"
    with pytest.raises(OnlineStoreDown):
        await reader.execute("PING")
    with server:
        assert await reader.execute("PING") == b"PONG"
    await reader.aclose()


async def test_database_and_password(tmp_path: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", "secret")
        try:
            open_url = redis_url.removesuffix("/0").replace("redis://", "redis://:secret@") + "/3"
            reader = PipelinedRedis(open_url, 5)
            assert await reader.execute("SET", "k", "v") == b"OK"
            await reader.aclose()
            with redis.Redis.from_url(open_url) as third:
                assert third.get("k") == b"v"
                third.flushall()
            locked = PipelinedRedis(redis_url, 5)
            with pytest.raises(OnlineStoreDown, match="NOAUTH"):
                await locked.execute("GET", "k")
            await locked.aclose()
            wrong = PipelinedRedis(open_url.replace("secret", "wrong"), 5)
            with pytest.raises(OnlineStoreDown) as refused:
                await wrong.execute("GET", "k")
            assert "wrong" not in str(refused.value).replace("WRONGPASS", "")
            await wrong.aclose()
        finally:
            with redis.Redis.from_url(redis_url.replace("redis://", "redis://:secret@")) as admin:
                admin.config_set("requirepass", "")


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def asked(talk: Talk, timeout_s: float = 5.0) -> AsyncIterator[PipelinedRedis]:
    """A reader of a server that does what `talk` does."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    reader = PipelinedRedis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_s)
    try:
        yield reader
    finally:
        await reader.aclose()
        server.close()
        await asyncio.sleep(0.02)  # the server's side notices


async def test_a_hung_server_costs_the_timeout_and_its_connection() -> None:
    connections = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await gone(reader, writer)

    async with asked(silent, 0.05) as reader:
        first = await asyncio.gather(*(reader.execute("GET", "k") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, OnlineStoreDown) for one in first)
        assert len(connections) == 1
        with pytest.raises(OnlineStoreDown, match=r"within 0\.05 s"):
            await reader.execute("GET", "k")
        assert len(connections) == 2


async def test_those_who_wait_for_a_connection_that_fails_fail_with_it() -> None:
    """One after another they would each wait for a timeout of their own."""
    tried = []

    async def hung(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(writer)
        await reader.read()  # AUTH, and no answer to it
        writer.close()

    server = await asyncio.start_server(hung, "127.0.0.1", 0)
    reader = PipelinedRedis(f"redis://:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0", 0.2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = await asyncio.gather(*(reader.get("k") for _ in range(20)), return_exceptions=True)
    assert [type(one) for one in found] == [OnlineStoreDown] * 20
    assert loop.time() - began < 2
    assert len(tried) == 1
    with pytest.raises(OnlineStoreDown):  # who comes later tries anew
        await reader.get("k")
    assert len(tried) == 2
    for writer in tried:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_an_answer_that_comes_after_its_caller_gave_up_goes_to_nobody() -> None:
    async def slow_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        await asyncio.sleep(0.05)
        writer.write(b"+first\r\n+second\r\n")
        await gone(reader, writer)

    async with asked(slow_first) as reader:
        first = asyncio.create_task(reader.execute("GET", "1"))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(reader.execute("GET", "2"))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == b"second"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400\r\n", b"", b"$5\r\nhalf"])
async def test_what_is_not_redis(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        writer.close()

    async with asked(talk) as reader:
        for _ in range(2):
            with pytest.raises(OnlineStoreDown):
                await reader.execute("GET", "k")


async def test_an_answer_nobody_asked_for_ends_the_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"+mine\r\n+whose\r\n")
        await gone(reader, writer)

    async with asked(talk) as reader:
        assert await reader.execute("GET", "1") == b"mine"
        assert await reader.execute("GET", "2") == b"mine"


async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read until the other side leaves."""
    with suppress(ConnectionError):
        await reader.read()
    writer.close()
