"""Real processes of the filter behind the gateway's client, under load: one is added, one is killed.

The list of replicas is a file, in the place of DNS; the rest is what the gateway has.
"""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, asynccontextmanager, contextmanager

import httpx
import pytest
import redis

from cascade.api.filter import FilterRequest, SeenRequest
from cascade.online import keys
from cascade.online.server import free_port
from cascade.serving.balance import Place
from cascade.serving.balanced_calls import BalancedCaller
from cascade.serving.calls import CallFailed
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.tcp_calls import TcpCaller
from services.gateway.clients import FilterClient, ServiceClient
from services.gateway.telemetry import Telemetry

ITEMS = [f"i{number}" for number in range(20)]
SENDERS = 4
PAUSE_S = 0.01
WINDOW = 300
"""Calls over which a share is counted: 1/3 of them is 100, give or take 8."""


class Process:
    """`python -m services.filter` on a port of its own."""

    def __init__(self, redis_url, log):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {
            **os.environ,
            "CASCADE_FILTER_PORT": str(self.port),
            "CASCADE_FILTER_REDIS_URL": redis_url,
            "CASCADE_FILTER_REDIS_TIMEOUT_MS": "30000",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.filter"], env=environment, stdout=log, stderr=log
        )

    async def ready(self):
        async with asyncio.timeout(120), httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            while True:
                assert self._process.poll() is None, "the service ended"
                try:
                    if (await client.get("/readyz")).is_success:
                        return
                except httpx.TransportError:
                    pass  # not listening yet
                await asyncio.sleep(0.05)

    async def answered(self):
        """Calls to /v1/filter so far, by its own count."""
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            page = (await client.get("/metrics")).text
        lines = [
            line for line in page.splitlines() if line.startswith("cascade_requests_total{") and "/v1/filter" in line
        ]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))

    def freeze(self):
        """It still takes connections and bytes, and does nothing with them."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self):
        self._process.kill()
        self._process.wait()


class Load:
    """Visitors who ask one after another; every answer is held to what it must be."""

    def __init__(self, client):
        self._client = client
        self.answers = 0

    async def ask(self):
        while True:
            answer = await self._client.unseen(FilterRequest(user_id="u", item_ids=ITEMS))
            assert answer.item_ids == ITEMS
            self.answers += 1
            await asyncio.sleep(PAUSE_S)

    async def more(self, count):
        """Wait for so many answers."""
        enough = self.answers + count
        while self.answers < enough:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)

    @asynccontextmanager
    async def going_on(self):
        """A sender that fails ends the test with its error: no call may be lost."""
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self.ask()) for _ in range(SENDERS)]
            yield
            for sender in senders:
                sender.cancel()


@contextmanager
def processes(redis_url, log):
    """→ starts a process; all are gone in the end."""
    with ExitStack() as stack:

        def start():
            process = Process(redis_url, log)
            stack.callback(process.kill)
            return process

        yield start


@pytest.mark.timeout(300)
async def test_one_added_under_load_takes_its_share_and_one_killed_costs_no_request(redis_url, tmp_path, eventually):
    listed, metrics = tmp_path / "replicas", ServiceMetrics("gateway")

    def write(*replicas):
        listed.write_text(" ".join(replica.url for replica in replicas))

    async def resolve():
        return [Place(url) for url in listed.read_text().split()]

    def metric(name, **labels):
        return metrics.registry.get_sample_value(name, {"stage": "filter", **labels})

    with (tmp_path / "log").open("ab") as log, processes(redis_url, log) as start:
        first, second, added = start(), start(), start()
        await asyncio.gather(first.ready(), second.ready(), added.ready())
        write(first, second)
        caller = BalancedCaller(resolve, Telemetry(metrics).replicas_of("filter"), resolve_s=0.5)
        await caller.start()
        load = Load(FilterClient(ServiceClient("filter", caller, 60.0, dict), 60.0))
        try:
            async with load.going_on():
                await load.more(WINDOW)
                assert await added.answered() == 0
                write(first, second, added)
                share, deadline = 0.0, asyncio.get_running_loop().time() + 5
                while share < 0.2 and asyncio.get_running_loop().time() < deadline:
                    share = await share_of(added, load, [first, second, added])
                assert share >= 0.2, "a third is its share"
                assert metric("cascade_replicas") == 3

                first.kill()  # still listed: nobody has told the gateway
                await load.more(WINDOW)
                assert metric("cascade_replicas_ejected") == 1
                assert metric("cascade_ejections_total", reason="unreachable") == 1
                assert metric("cascade_call_retries_total") >= 1

                write(second, added)
                await eventually(lambda: metric("cascade_replicas") == 2)
                assert metric("cascade_replicas_ejected") == 0
                assert 0.2 < await share_of(added, load, [second, added]) < 0.8
        finally:
            await caller.aclose()


async def share_of(process, load, everyone):
    """Of the next calls, by the processes' own counts."""
    before = {one: await one.answered() for one in everyone}
    await load.more(WINDOW)
    taken = {one: await one.answered() - before[one] for one in everyone}
    return taken[process] / sum(taken.values())


class Cut:
    """The way to a replica whose connection breaks after the work and before the answer, once for each of `cuts`."""

    def __init__(self, place, cuts):
        self._caller, self._cuts = TcpCaller(place.url), cuts

    async def call(self, *arguments):
        answer = await self._caller.call(*arguments)
        if arguments[1] == "/v1/seen" and self._cuts:
            self._cuts.pop()
            raise CallFailed("cut")
        return answer

    async def aclose(self):
        await self._caller.aclose()


@pytest.mark.timeout(300)
async def test_one_killed_costs_no_click_and_doubles_none(redis_url, tmp_path, eventually):
    """Killed with clicks in its hands that it has not begun; before that, some answers are lost after the work."""
    metrics, cuts, answered = ServiceMetrics("gateway"), ["one", "another"], {}
    store = redis.Redis.from_url(redis_url, decode_responses=True)
    store.delete(keys.EVENTS)

    def metric(name):
        return metrics.registry.get_sample_value(name, {"stage": "filter"})

    with (tmp_path / "log").open("ab") as log, processes(redis_url, log) as start:
        first, second = start(), start()
        await asyncio.gather(first.ready(), second.ready())

        async def resolve():
            return [Place(first.url), Place(second.url)]

        caller = BalancedCaller(
            resolve,
            Telemetry(metrics).replicas_of("filter"),
            connect=lambda place: Cut(place, cuts if place.url == first.url else []),
        )
        await caller.start()
        client = FilterClient(ServiceClient("filter", caller, 60.0, dict), 60.0)

        async def click(sender):
            number = 0
            while True:
                item = f"{sender}-{number}"
                answered[item] = (await client.seen(SeenRequest(user_id="u", item_id=item, timestamp=1))).event_id
                number += 1

        async def more(count):
            enough = len(answered) + count
            while len(answered) < enough:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_S)

        try:
            async with asyncio.TaskGroup() as group:  # a click that fails ends the test with its error
                senders = [group.create_task(click(sender)) for sender in range(2 * SENDERS)]
                await more(WINDOW)
                await eventually(lambda: not cuts and metric("cascade_replicas_ejected") == 0)
                assert metric("cascade_call_retries_total") == 2
                first.freeze()
                await asyncio.sleep(0.5)  # it has some by now: the least loaded gets the next
                first.kill()
                await more(WINDOW)
                assert metric("cascade_call_retries_total") > 2
                for sender in senders:
                    sender.cancel()
        finally:
            await caller.aclose()

    # Of those that were cancelled in the end an event may be there, and no answer.
    events = [fields["item_id"] for _, fields in store.xrange(keys.EVENTS)]
    assert len(events) == len(set(events))
    assert set(answered) <= set(events)
    assert len(set(answered.values())) == len(answered)
    store.close()
