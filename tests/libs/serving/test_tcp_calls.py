"""Calls over real sockets: whatever the other side does has one outcome, and no connection is reused wrongly."""

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager, suppress

import pytest

from cascade.serving import tcp_calls
from cascade.serving.calls import CallFailed, CallLate
from cascade.serving.tcp_calls import TcpCaller

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(talk, **options):
    """A server whose connections are handled by `talk(reader, writer, number)`; gives a caller and the connections."""
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        try:
            await talk(reader, writer, len(connections))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    caller = TcpCaller(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **options)
    try:
        yield caller, connections
    finally:
        await caller.aclose()
        server.close()
        for writer in connections:
            writer.close()
        await asyncio.sleep(0)


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


def forever(answer):
    async def talk(reader, writer, number):
        while True:
            head, body = await read_request(reader)
            writer.write(answer(head, body) if callable(answer) else answer)
            await writer.drain()

    return talk


async def ask(caller, timeout_s=5.0, body=b"hi", headers=None, path="/v1/x"):
    return await caller.call("POST", path, body, headers or {"x-request-id": "r1"}, timeout_s)


async def test_what_is_sent_arrives_and_the_connection_is_kept():
    got = []

    def answer(head, body):
        got.append((head, body))
        return b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\nRetry-After: 4\r\n\r\nyes"

    async with serving(forever(answer)) as (caller, connections):
        for _ in range(5):
            found = await ask(caller, body=b"some bytes")
            assert (found.status, found.body, found.headers["retry-after"], found.is_success) == (
                201,
                b"yes",
                "4",
                True,
            )
        assert len(connections) == 1
    head, body = got[0]
    assert head.startswith(b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"x-request-id: r1\r\n" in head
    assert body == b"some bytes"


async def test_answers_in_pieces_and_in_chunks():
    async def talk(reader, writer, number):
        while True:
            await read_request(reader)
            whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
            for at in range(len(whole)):
                writer.write(whole[at : at + 1])
                await writer.drain()

    async with serving(talk) as (caller, _):
        assert (await ask(caller)).body == b"abcde"
        assert (await ask(caller)).body == b"abcde"


async def test_100_continue_is_not_the_answer():
    async with serving(forever(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)) as (caller, _):
        assert (await ask(caller)).status == 200


async def test_an_answer_that_asks_to_close_is_the_last_on_its_connection():
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with serving(forever(closing)) as (caller, connections):
        await ask(caller)
        await ask(caller)
        assert len(connections) == 2


async def test_a_late_answer_is_never_given_to_the_next_call():
    async def talk(reader, writer, number):
        while True:
            _, body = await read_request(reader)
            if body == b"slow":
                await asyncio.sleep(0.2)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + body)
            await writer.drain()

    async with serving(talk) as (caller, connections):
        with pytest.raises(CallLate):
            await ask(caller, timeout_s=0.02, body=b"slow")
        assert (await ask(caller, body=b"fast")).body == b"fast"
        await asyncio.sleep(0.25)
        assert (await ask(caller, body=b"next")).body == b"next"
        assert len(connections) == 2


async def test_a_cancelled_call_gives_up_its_connection():
    async def talk(reader, writer, number):
        await read_request(reader)
        if number == 1:
            await asyncio.sleep(3600)
        writer.write(OK)
        await writer.drain()

    async with serving(talk, max_connections=1) as (caller, connections):
        task = asyncio.create_task(ask(caller))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await ask(caller)).body == b"ok"
        assert len(connections) == 2


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"\x00\xff not http\r\n\r\n"]
)
async def test_broken_answers_are_failures(answer):
    async def talk(reader, writer, number):
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with serving(talk) as (caller, _):
        with pytest.raises(CallFailed):
            await ask(caller)


async def test_an_answer_beyond_the_bound_is_refused(monkeypatch):
    monkeypatch.setattr("cascade.serving.tcp_calls.MAX_ANSWER_BYTES", 10)
    async with serving(forever(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b"x" * 11)) as (caller, _):
        with pytest.raises(CallFailed, match="more than 10 bytes"):
            await ask(caller)


async def test_nobody_listens():
    caller = TcpCaller("http://127.0.0.1:1")
    with pytest.raises(CallFailed, match="no connection"):
        await ask(caller)


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used():
    async def talk(reader, writer, number):
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    async with serving(talk) as (caller, connections):
        for _ in range(3):
            assert (await ask(caller)).body == b"ok"
            await asyncio.sleep(0.02)
        assert len(connections) == 3


async def test_idle_connections_age():
    async with serving(forever(OK), keep_alive_s=0.01) as (caller, connections):
        await ask(caller)
        await asyncio.sleep(0.05)
        await ask(caller)
        assert len(connections) == 2


async def test_calls_beyond_the_connections_wait_their_turn():
    active = most = 0

    async def talk(reader, writer, number):
        nonlocal active, most
        while True:
            await read_request(reader)
            active, most = active + 1, max(most, active + 1)
            await asyncio.sleep(0.01)
            active -= 1
            writer.write(OK)
            await writer.drain()

    async with serving(talk, max_connections=3) as (caller, _):
        answers = await asyncio.gather(*(ask(caller) for _ in range(12)))
        assert [one.status for one in answers] == [200] * 12
        assert most == 3
        with pytest.raises(CallLate):
            await asyncio.gather(*(ask(caller, timeout_s=0.015) for _ in range(12)))


@pytest.mark.parametrize("headers", [{"x-request-id": "a\r\nx: y"}, {"x-request-id": "a\ny"}, {"x": "\0"}])
async def test_no_header_can_break_out_of_its_line(headers):
    async with serving(forever(OK)) as (caller, connections):
        with pytest.raises(ValueError, match="line break"):
            await ask(caller, headers=headers)
        with pytest.raises(ValueError, match="line break"):
            await ask(caller, path="/v1/x HTTP/1.1\r\nx: y")
        assert connections == []


@pytest.mark.parametrize("url", ["redis://x", "http://", "localhost:80"])
def test_addresses_that_are_none(url):
    with pytest.raises(ValueError, match="give http://host:port"):
        TcpCaller(url)


async def test_a_call_tells_how_much_time_it_has():
    got = []

    def answer(head, body):
        got.append(head)
        return OK

    async with serving(forever(answer)) as (caller, _):
        await ask(caller)  # connecting takes a part of its time
        await ask(caller, timeout_s=1.5)
    assert b"\r\nx-deadline-ms: 1500\r\n" in got[1]


async def test_connections_that_a_busy_moment_opened_are_given_up():
    """One call after another takes the connection that came back last: the others must not stay open for that."""
    gone, busy = [], asyncio.Event()

    async def talk(reader, writer, number):
        try:
            while True:
                await read_request(reader)
                if number == 20:
                    busy.set()
                await busy.wait()
                writer.write(OK)
        finally:
            gone.append(number)

    async with serving(talk, keep_alive_s=0.1) as (caller, connections):
        await asyncio.gather(*(ask(caller) for _ in range(20)))
        until = asyncio.get_running_loop().time() + 5
        while len(gone) < 19 and asyncio.get_running_loop().time() < until:
            await ask(caller)
            await asyncio.sleep(0.02)
        assert (len(connections), len(gone)) == (20, 19)


async def test_connections_that_are_over_do_not_wait_for_the_garbage_collector():
    """A service that is late costs a connection a call; the collector comes after tens of thousands of objects."""
    made = []

    class Watched(tcp_calls._Connection):
        def __init__(self, loop):
            super().__init__(loop)
            made.append(weakref.ref(self))

    async def talk(reader, writer, number):
        await read_request(reader)
        if number % 2:
            await reader.read()  # never answers
        writer.write(OK.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tcp_calls, "_Connection", Watched)
        gc.collect()
        gc.disable()
        try:
            async with serving(talk) as (caller, _):
                for number in range(6):
                    with suppress(CallLate):
                        await ask(caller, 5.0 if number % 2 else 0.02)
                await asyncio.sleep(0.1)
                assert [one() for one in made] == [None] * 6
        finally:
            gc.enable()


async def test_the_time_told_on_is_what_waiting_for_a_connection_has_left():
    told = []

    async def talk(reader, writer, number):
        while True:
            head, _ = await read_request(reader)
            told.append(int(head.split(b"x-deadline-ms: ")[1].split(b"\r\n")[0]))
            await asyncio.sleep(0.3)
            writer.write(OK)

    async with serving(talk, max_connections=1) as (caller, _):
        await asyncio.gather(ask(caller, 5.0), ask(caller, 5.0))
    assert told[0] > 4900 >= 4750 > told[1]
