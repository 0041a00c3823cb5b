"""Calls to a service of several replicas, over callers that behave as told, and over real sockets."""

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from cascade.serving.balance import Ejection, Place
from cascade.serving.balanced_calls import BalancedCaller
from cascade.serving.calls import Answer, CallFailed, CallLate, NotConnected

OK = Answer(200, b"ok")
A, B, C = (Place(f"http://10.0.0.{number}:80") for number in (1, 2, 3))
LONG = Ejection(3600.0)


def seeded():
    return random.Random(0)  # noqa: S311


class Told:
    """What a BalancedCaller told."""

    def __init__(self):
        self.counts = (0, 0)
        self.ejections = []
        self.retries = 0

    def replicas(self, known, ejected):
        self.counts = (known, ejected)

    def ejection(self, reason):
        self.ejections.append(reason)

    def retry(self):
        self.retries += 1


class Service:
    """Replicas that behave as `instead` says."""

    def __init__(self, *places):
        self.places = list(places)
        self.unknown = None
        self.looked_up = 0
        self.instead = {}
        self.calls = []
        self.times = []
        self.closed = []
        self.told = Told()

    async def resolve(self):
        self.looked_up += 1
        if self.unknown is not None:
            raise self.unknown
        return list(self.places)

    def connect(self, place):
        return Replica(self, place)

    @asynccontextmanager
    async def caller(self, **options):
        caller = BalancedCaller(
            self.resolve,
            self.told,
            **{"resolve_s": 0.002, "connect": self.connect, "rng": seeded(), "ejection": LONG, **options},
        )
        await caller.start()
        try:
            yield caller
        finally:
            await caller.aclose()


class Replica:
    def __init__(self, service, place):
        self.service, self.place = service, place

    async def call(self, method, path, body, headers, timeout_s, repeatable=False):
        self.service.calls.append(self.place)
        self.service.times.append(timeout_s)
        instead = self.service.instead.get(self.place, OK)
        if isinstance(instead, asyncio.Event):
            await instead.wait()
            return OK
        if isinstance(instead, Exception):
            raise instead
        return instead

    async def aclose(self):
        self.service.closed.append(self.place)


def ask(caller, repeatable=True, timeout_s=5.0):
    return caller.call("POST", "/v1/x", b"", {}, timeout_s, repeatable)


async def test_calls_are_spread_and_everything_is_closed():
    service = Service(A, B, C)
    async with service.caller() as caller:
        for _ in range(300):
            assert await ask(caller) is OK
        assert service.told.counts == (3, 0)
    assert set(Counter(service.calls)) == {A, B, C}
    assert min(Counter(service.calls).values()) > 60
    assert sorted(map(str, service.closed)) == sorted(map(str, (A, B, C)))


@pytest.mark.parametrize("failure", [CallFailed("broken"), NotConnected("refused")])
async def test_a_read_that_fails_is_sent_to_another(failure):
    service = Service(A, B)
    service.instead[A] = failure
    async with service.caller() as caller:
        for _ in range(20):
            assert await ask(caller) is OK
    assert service.calls.count(A) == 1, "ejected by the first"
    assert (service.told.retries, service.told.ejections, service.told.counts) == (1, ["unreachable"], (2, 1))
    assert all(time <= 5.0 for time in service.times)


async def test_a_write_is_repeated_only_when_nothing_was_sent():
    service = Service(A, B)
    service.instead = {A: CallFailed("broken"), B: CallFailed("broken")}
    async with service.caller() as caller:
        with pytest.raises(CallFailed, match="broken"):
            await ask(caller, repeatable=False)
        assert (len(service.calls), service.told.retries) == (1, 0)

    service = Service(A, B)
    service.instead[A] = NotConnected("refused")
    async with service.caller() as caller:
        for _ in range(10):
            assert await ask(caller, repeatable=False) is OK
    assert (service.calls.count(A), service.told.retries) == (1, 1)


async def test_a_call_is_repeated_once():
    service = Service(A, B, C)
    service.instead = dict.fromkeys((A, B, C), NotConnected("refused"))
    async with service.caller() as caller:
        with pytest.raises(NotConnected):
            await ask(caller)
        assert len(service.calls) == 2
        assert len(set(service.calls)) == 2


async def test_nothing_is_repeated_when_the_time_is_over():
    service = Service(A, B)
    service.instead = dict.fromkeys((A, B), NotConnected("refused"))
    async with service.caller() as caller:
        with pytest.raises(NotConnected):
            await ask(caller, timeout_s=0.0)
        assert len(service.calls) == 1


async def test_late_is_late_and_in_a_row_ejects():
    service = Service(A, B)
    service.instead[A] = CallLate("slow")
    late = 0
    async with service.caller(ejection=Ejection(3600.0, after=3)) as caller:
        for _ in range(100):
            try:
                await ask(caller)
            except CallLate:
                late += 1
    assert (late, service.told.retries, service.told.ejections) == (3, 0, ["late"])


async def test_server_errors_are_answers_and_in_a_row_eject():
    service = Service(A, B)
    service.instead[A] = Answer(503, b"")
    service.instead[B] = Answer(429, b"")
    async with service.caller(ejection=Ejection(3600.0, after=3)) as caller:
        answers = Counter([(await ask(caller)).status for _ in range(100)])
    assert answers == {503: 3, 429: 97}
    assert service.told.ejections == ["error"]


async def test_an_ejected_replica_returns_when_it_answers(eventually):
    service = Service(A, B)
    service.instead[A] = NotConnected("refused")
    async with service.caller(ejection=Ejection(0.005)) as caller:
        while service.told.counts != (2, 1):
            await ask(caller)
        del service.instead[A]
        while service.told.counts != (2, 0):
            assert await ask(caller) is OK
            await asyncio.sleep(0.001)


async def test_a_replica_that_is_listed_gets_calls_and_one_that_is_not_is_drained(eventually):
    service = Service(A)
    async with service.caller() as caller:
        service.instead[A] = asyncio.Event()
        held = asyncio.create_task(ask(caller))
        await eventually(lambda: service.calls == [A])
        service.places = [B]
        await eventually(lambda: service.told.counts == (1, 0) and service.looked_up > 3)
        assert await ask(caller) is OK
        await eventually(lambda: service.told.counts == (1, 0))
        while service.calls[-1] is A:
            await ask(caller)
        looked_up = service.looked_up
        await eventually(lambda: service.looked_up > looked_up + 3)
        assert service.closed == [], "its call is not over"
        service.instead[A].set()
        assert await held is OK
        await eventually(lambda: service.closed == [A])


@pytest.mark.parametrize("failure", [OSError("no DNS"), RuntimeError("a defect"), "empty"])
async def test_the_last_list_stays_when_there_is_no_new_one(failure, eventually):
    service = Service(A)
    async with service.caller() as caller:
        if failure == "empty":
            service.places = []
        else:
            service.unknown = failure
        looked_up = service.looked_up
        await eventually(lambda: service.looked_up > looked_up + 3)
        assert await ask(caller) is OK
        service.unknown, service.places = None, [B]
        await eventually(lambda: service.closed == [A])
        assert await ask(caller) is OK
    assert service.calls == [A, B]


async def test_a_name_that_does_not_resolve_yet(eventually):
    service = Service(A)
    service.unknown = OSError("not known")
    async with service.caller() as caller:
        with pytest.raises(NotConnected, match="does not resolve"):
            await ask(caller)
        service.unknown = None
        await eventually(lambda: service.told.counts == (1, 0))
        assert await ask(caller) is OK


async def test_start_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr("cascade.serving.balanced_calls._FIRST_S", 0.01)

    async def hang():
        await asyncio.sleep(3600)

    caller = BalancedCaller(hang, Told())
    await caller.start()
    with pytest.raises(NotConnected):
        await ask(caller)
    await caller.aclose()


async def test_a_cancelled_call_frees_its_replica():
    service = Service(A, B)
    service.instead = {A: asyncio.Event(), B: asyncio.Event()}
    async with service.caller() as caller:
        tasks = [asyncio.create_task(ask(caller)) for _ in range(2)]
        await asyncio.sleep(0)
        assert Counter(service.calls) == {A: 1, B: 1}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.instead.clear()
        for _ in range(20):
            await ask(caller)
    assert min(Counter(service.calls).values()) > 3
    assert service.told.ejections == []


async def test_over_sockets_a_replica_that_dies_amid_an_answer_costs_no_read():
    """One address of two breaks off in its answers, then refuses; the other answers all."""
    names = Counter()

    async def good(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            names["good"] += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def breaking(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        names[b"host: service:" in head] += 1
        dying.close()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
        writer.close()

    def quiet(talk):
        async def handle(reader, writer):
            try:
                await talk(reader, writer)
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()

        return handle

    living = await asyncio.start_server(quiet(good), "127.0.0.1", 0)
    port = living.sockets[0].getsockname()[1]
    try:
        dying = await asyncio.start_server(quiet(breaking), "127.0.0.2", port)
    except OSError as error:
        living.close()
        pytest.skip(f"no second loopback address here: {error}")
    told = Told()
    places = [Place(f"http://service:{port}", address) for address in ("127.0.0.1", "127.0.0.2")]

    async def resolve():
        return places

    caller = BalancedCaller(resolve, told, ejection=Ejection(0.005), rng=seeded())
    await caller.start()
    try:
        for _ in range(100):
            assert (await ask(caller, timeout_s=30.0)).body == b"ok"
            await asyncio.sleep(0.001)
    finally:
        await caller.aclose()
        living.close()
        dying.close()
        await asyncio.sleep(0.01)
    assert names == {"good": 100, True: 1}
    assert told.retries >= 2, "the broken one and at least one probe"
    assert told.counts == (2, 1)
