"""The short way answers as ASGI does, whatever arrives and in whatever pieces. Over real sockets."""

import asyncio
import gc
import json
import socket
import struct
import weakref
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from cascade.serving.app import create_service_app
from cascade.serving.context import current_request_id
from cascade.serving.direct import PlainRequest, Reading
from cascade.serving.direct_protocol import DirectProtocol
from cascade.serving.errors import QueueFull
from cascade.serving.hot import Hot
from cascade.serving.limit import ConcurrencyLimit
from cascade.serving.responses import JsonResponse
from cascade.serving.settings import ServiceSettings
from tests.libs.serving.short_way import short_way


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=5)
    wait_s: float = 0.0
    share: float = Field(0.5, ge=0, le=1)


async def answer(body: Body, request: Request) -> JsonResponse:
    if body.name == "full":
        raise QueueFull("no place")
    if body.name == "bug":
        raise RuntimeError("secret")
    await asyncio.sleep(body.wait_s)
    return JsonResponse({"name": body.name, "id": current_request_id(), "agent": request.headers.get("user-agent")})


async def echo(body: Body, request: Request) -> JsonResponse:
    return JsonResponse({"name": body.name})


def app(hot: bool, bound: ConcurrencyLimit | None = None):
    router = APIRouter()
    router.post("/v1/answer", response_model=Body)(answer)
    router.post("/v1/echo", response_model=Body)(echo)

    @asynccontextmanager
    async def lifespan(_):
        yield

    options = ServiceSettings(max_body_bytes=2048, log_level="error")
    ways = [Hot(answer, (lambda _app: bound) if bound else None)] if hot else []
    return create_service_app("test", options, lifespan, [router], hot=ways)


def request(body: bytes | dict, *headers: str, path="/v1/answer") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: x", "x-request-id: r", "content-type: application/json", *headers]
    if not any(one.lower().startswith(("content-length", "transfer-encoding")) for one in headers):
        lines.append(f"content-length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def was_short(headers: dict) -> bool:
    """Whether the answer came the short way: uvicorn's own answers name their server."""
    return "server" not in headers


async def read_answer(reader) -> tuple[int, dict, dict]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body) if "json" in headers["content-type"] else body


async def exchange(port, *pieces: bytes, pause=0.01):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause if len(pieces) > 1 else 0)
        return await asyncio.wait_for(read_answer(reader), 10)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": "a"}',
        b'{"name": ""}',
        b'{"name": "much too long"}',
        b'{"name": "a", "other": 1}',
        b'{"share": 2}',
        b'{"name": "full"}',
        b'{"name": "bug"}',
        b'{"name": "' + b"x" * 4000 + b'"}',
        b"",
        b"{",
        b"\xff",
    ],
)
async def test_the_same_answer_as_asgi_gives(content):
    application = app(hot=True)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    sent = {"x-request-id": "r", "host": "x"}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers={"user-agent": ""}) as client:
        plain = await client.post("/v1/answer", content=content, headers=sent)
    async with short_way(application) as (_, port):
        status, headers, body = await exchange(port, request(content, "user-agent: "))
    assert was_short(headers) == (len(content) <= 2048)
    assert status == plain.status_code
    assert body == plain.json()
    for name in ("content-type", "x-request-id", "retry-after", "content-length"):
        assert headers.get(name) == plain.headers.get(name)
    text = httpx.Response(200, content=application.state.metrics.exposition()).text
    assert (
        f'cascade_requests_total{{method="POST",route="/v1/answer",service="test",status="{status}"}} 2.0' in text
        or (status == 413)
    )


async def test_whatever_pieces_it_comes_in():
    whole = request({"name": "a"}, "user-agent: u")
    async with short_way(app(hot=True)) as (_, port):
        for cut in range(1, len(whole), 7):
            status, headers, body = await exchange(port, whole[:cut], whole[cut:], pause=0.002)
            assert (status, body) == (200, {"name": "a", "id": "r", "agent": "u"}), cut
            assert was_short(headers) == (cut > whole.index(b"\r\n\r\n") + 3), cut


async def test_requests_on_one_connection_are_answered_in_order():
    ways = [
        request({"name": "a", "wait_s": 0.05}),  # the short way, and the next ones come before its answer
        request({"name": "b"}, path="/v1/echo"),  # uvicorn's
        request({"name": "c"}),
        request({"name": "d"}),
    ]
    async with short_way(app(hot=True)) as (_, port):
        for pause in (0.0, 0.02):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for one in ways:
                writer.write(one)
                await asyncio.sleep(pause)
            names = [(await asyncio.wait_for(read_answer(reader), 10))[2]["name"] for _ in ways]
            assert names == ["a", "b", "c", "d"]
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(ways))
        assert [(await asyncio.wait_for(read_answer(reader), 10))[2]["name"] for _ in ways] == ["a", "b", "c", "d"]
        writer.close()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (["transfer-encoding: chunked"], b'd\r\n{"name": "a"}\r\n0\r\n\r\n', 200),
        (["connection: close"], b'{"name": "a"}', 200),
        (["content-length: 13", "content-length: 13"], b'{"name": "a"}', 400),
        (["content-length: +13"], b'{"name": "a"}', 400),
        (["bad name: 1"], b'{"name": "a"}', 400),
        (["x: a\nb: c"], b'{"name": "a"}', None),
        (["x: " + "y" * 9000], b'{"name": "a"}', 200),
    ],
)
async def test_unusual_heads_are_the_parsers_to_judge(headers, body, status):
    application = app(hot=True)
    data = request(body, *headers)
    assert application.direct.read(data) is Reading.OTHER
    async with short_way(application) as (_, port):
        try:
            answered = (await exchange(port, data))[0]
        except asyncio.IncompleteReadError:
            answered = 400  # closed without an answer
        assert status is None or answered == status


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_reading_takes_nothing_but_plain_requests(noise, at):
    direct = app(hot=True).direct
    good = request({"name": "a"})
    assert isinstance(direct.read(good), PlainRequest)
    spoiled = good[:at] + noise + good[at:]
    found = direct.read(spoiled)
    if isinstance(found, PlainRequest):  # then it said so: known path, one length, and exactly that many bytes
        head, _, body = spoiled.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/answer HTTP/1.1\r\n")
        assert [len(body)] == [int(v) for n, v in found.headers if n == b"content-length"]
        assert found.body == body
        assert b"\n" not in head.replace(b"\r\n", b"")


async def test_beyond_the_bound_it_refuses_before_it_reads_the_body():
    limit = ConcurrencyLimit(1, 0)
    application = app(hot=True, bound=limit)
    async with short_way(application) as (_, port):
        assert (await exchange(port, request({"name": "a"})))[0] == 200
        async with limit.slot():
            status, headers, body = await exchange(port, request(b"not even JSON"))
        assert (status, headers["retry-after"], headers["x-request-id"]) == (429, "1", "r")
        assert body["type"] == "urn:cascade:problem:overloaded"
        assert (body["request_id"], body["instance"]) == ("r", "/v1/answer")
        assert (await exchange(port, request(b"not even JSON")))[0] == 422
    text = application.state.metrics.exposition().decode()
    assert 'route="/v1/answer",service="test",status="429"} 1.0' in text
    assert 'cascade_errors_total{kind="overloaded",service="test"} 1.0' in text


async def test_each_request_without_an_id_gets_its_own():
    async with short_way(app(hot=True)) as (_, port):
        plain = request({"name": "a"}).replace(b"x-request-id: r\r\n", b"")
        ids = set()
        for _ in range(3):
            _, headers, body = await exchange(port, plain)
            assert headers["x-request-id"] == body["id"]
            ids.add(body["id"])
        assert len(ids) == 3


async def test_what_is_in_hand_is_answered_before_the_end():
    async with short_way(app(hot=True)) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request({"name": "a", "wait_s": 0.3}))
        half = request({"name": "b"})
        other_reader, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(half[:-3])  # its body is on the way
        await asyncio.sleep(0.1)
        server.should_exit = True
        await asyncio.sleep(0.15)
        other.write(half[-3:])
        status, headers, _ = await asyncio.wait_for(read_answer(reader), 10)
        assert (status, headers["connection"]) == (200, "close")
        assert await reader.read() == b""
        assert (await asyncio.wait_for(read_answer(other_reader), 10))[2]["name"] == "b"
        writer.close()
        other.close()


async def test_idle_connections_are_closed_in_time():
    async with short_way(app(hot=True), timeout_keep_alive=1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):  # each request begins the idle time anew
            writer.write(request({"name": "a"}))
            assert (await read_answer(reader))[0] == 200
            await asyncio.sleep(0.6)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_who_goes_away_harms_nobody():
    async with short_way(app(hot=True)) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request({"name": "a", "wait_s": 0.1}))
        await asyncio.sleep(0.02)
        writer.close()
        await asyncio.sleep(0.2)
        assert (await exchange(port, request({"name": "b"})))[0] == 200


async def test_a_connection_that_was_reset_is_not_kept_for_its_idle_time():
    made = []

    class Watched(DirectProtocol):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    async with short_way(app(hot=True), http=Watched) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request({"name": "a"}))
        assert (await read_answer(reader))[0] == 200
        (kept,) = made
        assert kept.timeout_keep_alive_task is not None
        plain = writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()  # with no time to linger, a reset
        async with asyncio.timeout(5):
            while server.server_state.connections:  # noqa: ASYNC110  (uvicorn has no event for it)
                await asyncio.sleep(0.01)
        assert kept.timeout_keep_alive_task is None


@pytest.mark.parametrize("hot", [True, False])
async def test_connections_that_are_over_do_not_wait_for_the_garbage_collector(hot):
    """The collector comes after tens of thousands of objects; a gateway gives up its idle connections all day long."""
    made = []

    class Watched(DirectProtocol):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(weakref.ref(self))

    async with short_way(app(hot=hot), http=Watched) as (server, port):
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for name in ("a", "b"):
                    writer.write(request({"name": name}))
                    assert (await read_answer(reader))[0] == 200
                writer.close()
            async with asyncio.timeout(5):
                while server.server_state.connections:  # noqa: ASYNC110  (uvicorn has no event for it)
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert [one() for one in made] == [None] * 3
        finally:
            gc.enable()
