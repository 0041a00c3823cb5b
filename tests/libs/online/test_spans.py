"""What is asked of Redis stands in the trace of whoever asks: the commands, and no key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from cascade import tracing
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.interactions import Event, Interactions
from cascade.online.pipelined import PipelinedRedis
from cascade.serving.otlp import OtlpTracer
from tests.collector import Collected, Collector

USER = "u-seventeen"


async def spans_of(ask: Callable[[], Awaitable[object]]) -> list[Collected]:
    """The spans below that of a request that asks so."""
    with Collector() as collector:
        tracer = OtlpTracer("demo", collector.endpoint, 1.0)
        with tracing.Entered(tracer.request("POST", (), {})):
            await ask()
        await tracer.aclose()
    assert not any(USER.encode() in body for body in collector.bodies)
    return sorted((one for one in collector.spans if one.parent), key=lambda one: one.began_ns)


async def test_commands_on_the_shared_connection(redis_url: str) -> None:
    reader = PipelinedRedis(redis_url, 5)

    async def ask() -> None:
        await reader.get(USER)
        await reader.execute_all([("HMGET", USER, "a"), ("LRANGE", f"{USER}-recent", 0, 1), ("LRANGE", "other", 0, 1)])

    one, several = await spans_of(ask)
    await reader.aclose()
    assert (one.name, one.kind) == ("redis GET", 3)
    assert one.attributes == {"db.system.name": "redis", "db.operation.name": "GET"}
    assert several.name == "redis HMGET LRANGE"
    assert several.attributes["db.operation.name"] == "HMGET LRANGE LRANGE"
    assert several.attributes["db.operation.batch.size"] == 3


async def test_commands_and_pipelines_of_the_client(redis_url: str) -> None:
    client = connect(redis_url, timeout_s=5)
    await client.script_flush()

    async def ask() -> None:
        await Interactions(client).record(Event(USER, "i", 1, "click"))
        async with client.pipeline(transaction=False) as step:
            step.get(USER)
            step.scard(USER)
            assert await step.execute() == [None, 0]

    found = await spans_of(ask)
    assert [one.name for one in found] == ["redis EVALSHA", "redis EVAL", "redis GET SCARD"]
    assert [one.failed for one in found] == [True, False, False]  # a server that does not know the script yet
    await client.aclose()


async def test_a_server_that_is_down_is_a_span_that_failed() -> None:
    async def ask() -> None:
        with pytest.raises(OnlineStoreDown):
            await PipelinedRedis("redis://127.0.0.1:1/0", 1).get(USER)

    (one,) = await spans_of(ask)
    assert one.failed
    assert one.attributes["error.type"] == "OnlineStoreDown"


async def test_outside_of_a_traced_request_nothing_is_made(redis_url: str) -> None:
    client = connect(redis_url, timeout_s=5)
    async with client.pipeline(transaction=True) as step:
        step.set(USER, 1)
        step.get(USER)
        assert await step.execute() == [True, b"1"]
    assert await client.get(USER) == b"1"
    await client.aclose()
