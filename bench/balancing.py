"""What it costs to choose a replica for every call: processor time of the caller's process, side by side."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson
import uvloop

from bench.figures import shown
from bench.report import Report
from cascade.serving.balance import Place
from cascade.serving.balanced_calls import BalancedCaller
from cascade.serving.calls import Answer, Caller
from cascade.serving.tcp_calls import TcpCaller

REPLICAS = (1, 3, 12, 40)
BODY = orjson.dumps({"user_id": "u", "item_ids": [f"{number:08d}-item" for number in range(300)]})
HEADERS = {"content-type": "application/json", "x-request-id": "0123456789abcdef"}
PLAIN = "plain"


def run(report: Report) -> None:
    """See the module."""
    turns, calls, repeats = (10, 100, 3) if report.quick else (20, 200, 7)
    report.say(
        "One call after another over loopback, a body of 300 ids there and back, uvloop; the other side is a process "
        "of its own that does nothing else, and only the caller's processor time is counted. Variants take turns of "
        f"{calls} calls. *Choice alone* is the same code over callers that answer at once, less the call of one.",
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _answering() as port:
        over_tcp = runner.run(_measure(_tcp(port), turns, calls, repeats))
        at_once = runner.run(_measure(_instant(), turns, 10 * calls, repeats))
    rows = []
    for name, taken in over_tcp.items():
        alone = [one - plain for one, plain in zip(at_once[name], at_once[PLAIN], strict=True)]
        figures = [report.figure(f"{name}.call", taken, "µs", note="processor time of the calling process")]
        if name != PLAIN:
            figures.append(report.figure(f"{name}.choice", alone, "µs", note="without sockets"))
        rows.append((name, *(shown(figure.value) for figure in figures), *[""] * (2 - len(figures))))
    report.table(("caller", "a call, µs", "choice alone, µs"), rows)


async def _measure(callers: Mapping[str, Caller], turns: int, calls: int, repeats: int) -> dict[str, list[float]]:
    """Microseconds of processor a call: the median turn of each repeat."""
    medians: dict[str, list[float]] = {name: [] for name in callers}
    for caller in callers.values():
        if isinstance(caller, BalancedCaller):
            await caller.start()
        await _turn(caller, 2 * max(REPLICAS))  # connections are made
    for _ in range(repeats):
        taken: dict[str, list[float]] = {name: [] for name in callers}
        for _ in range(turns):
            for name, caller in callers.items():
                taken[name].append(1e6 * await _turn(caller, calls) / calls)
        for name, values in taken.items():
            medians[name].append(statistics.median(values))
    for caller in callers.values():
        await caller.aclose()
    return medians


async def _turn(caller: Caller, calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        await caller.call("POST", "/v1/filter", BODY, HEADERS, 30.0, True)
    return time.process_time() - started


def _tcp(port: int) -> dict[str, Caller]:
    url = f"http://127.0.0.1:{port}"
    places = [Place(f"{url}/{number}") for number in range(max(REPLICAS))]
    return {PLAIN: TcpCaller(url)} | {_named(count): _balanced(places[:count]) for count in REPLICAS}


class _AtOnce:
    """A Caller whose answer is there already."""

    def __init__(self, place: Place | None = None) -> None:
        self._answer = Answer(200, BODY)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        repeatable: bool = False,
    ) -> Answer:
        return self._answer

    async def aclose(self) -> None:
        pass


def _instant() -> dict[str, Caller]:
    places = [Place("http://service", str(number)) for number in range(max(REPLICAS))]
    callers: dict[str, Caller] = {PLAIN: _AtOnce()}
    for count in REPLICAS:
        callers[_named(count)] = _balanced(places[:count], at_once=True)
    return callers


def _named(count: int) -> str:
    return f"replicas_{count}"


def _balanced(places: Sequence[Place], *, at_once: bool = False) -> BalancedCaller:
    async def resolve() -> Sequence[Place]:
        return places

    rng = random.Random(7)  # noqa: S311
    return BalancedCaller(resolve, _Untold(), resolve_s=3600.0, connect=_AtOnce if at_once else None, rng=rng)


class _Untold:
    """A ReplicaObserver that counts nothing."""

    def replicas(self, known: int, ejected: int) -> None:
        pass

    def ejection(self, reason: str) -> None:
        pass

    def retry(self) -> None:
        pass


_SERVER = """
import asyncio, sys, uvloop

HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
ANSWER = HEAD % {size} + b"x" * {size}

class Talk(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.missing = transport, 0

    def data_received(self, data):
        if self.missing == 0:
            head, _, body = data.partition(b"\\r\\n\\r\\n")
            self.missing = {size} - len(body)
        else:
            self.missing -= len(data)
        if self.missing == 0:
            self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@contextmanager
def _answering() -> Iterator[int]:
    """A process that answers every request alike; → its port."""
    program = _SERVER.replace("{size}", str(len(BODY)))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
