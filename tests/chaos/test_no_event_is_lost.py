"""Workers and the Redis server are killed under load: every event that was answered is in the Parquet exactly once.

`make chaos` sends 100,000 events; CASCADE_CHAOS_EVENTS sets another number.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.interactions import Event, Interactions
from cascade.online.server import RedisServer, free_port
from cascade.online.streams import COMMIT_PREFIX

EVENTS = int(os.environ.get("CASCADE_CHAOS_EVENTS", "3000"))
RATE = 1000.0
SENDERS = 16
SETTINGS = {"flush_s": 0.2, "flush_entries": 500, "claim_after_s": 2.0, "offline_push_s": 1.0, "cycle_ms": 20}
DRAIN_LIMIT_S = 240.0

pytestmark = pytest.mark.timeout(1800)


class Workers:
    """Processes of the worker; one that is killed is followed by another, as a supervisor would see to it."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports: dict[int, int] = {}

    def start(self) -> None:
        port = free_port()
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.features"],
                env={**self._environment, "CASCADE_FEATURES_PORT": str(port)},
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        self._ports[process.pid] = port

    def wait_until_ready(self) -> None:
        limit = time.monotonic() + 300
        for process in self._processes:
            while not _is_ready(self._ports[process.pid]):
                assert time.monotonic() < limit, self._log.read_text()[-3000:]
                time.sleep(0.1)

    def kill_one(self, rng: random.Random) -> None:
        victim = self._processes.pop(rng.randrange(len(self._processes)))
        victim.kill()
        victim.wait()
        self.start()

    async def freeze_one(self, rng: random.Random, seconds: float) -> None:
        """Stopped for longer than others wait before they take its entries over; then it goes on as if nothing was."""
        victim = rng.choice(self._processes)
        victim.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            victim.send_signal(signal.SIGCONT)

    def end(self) -> list[int]:
        for process in self._processes:
            process.terminate()
        return [process.wait(60) for process in self._processes]

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(workers: Workers, count: int) -> Iterator[None]:
    for _ in range(count):
        workers.start()
    try:
        workers.wait_until_ready()
        yield
    finally:
        workers.kill()


async def send(url: str, count: int, acknowledged: dict[str, tuple[str, str]]) -> int:
    """Interactions at RATE where the machine allows; returns how many were not acknowledged."""
    client = connect(url, timeout_s=2.0, max_connections=SENDERS)
    interactions = Interactions(client)
    numbers = itertools.count()
    started = time.monotonic()
    failed = 0

    async def sender() -> None:
        nonlocal failed
        while (number := next(numbers)) < count:
            await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
            event = Event(f"u{number % 997}", f"i{number % 12}", 1_767_600_000 + number % 90_000, "click", "mobile")
            try:
                event_id = await interactions.record(event)
            except OnlineStoreDown:
                failed += 1  # answered with 503: it may be in the stream, or not
                await asyncio.sleep(0.2)
            else:
                acknowledged[event_id] = (event.user_id, event.item_id)

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    await client.aclose()
    return failed


async def when(condition: Callable[[], bool], then: Callable[[], Awaitable[None]]) -> None:
    while not condition():  # noqa: ASYNC110  (a number of events is no asyncio event)
        await asyncio.sleep(0.01)
    await then()


async def test_every_acknowledged_event_is_in_the_parquet_exactly_once(live_shop: Any, tmp_path: Path) -> None:
    rng = random.Random(7)  # noqa: S311
    server = RedisServer(tmp_path / "redis", free_port(), appendfsync="always")
    workers = Workers(live_shop.environment(server.url, **SETTINGS), tmp_path / "workers.log")
    acknowledged: dict[str, tuple[str, str]] = {}

    async def kill_worker() -> None:
        await asyncio.to_thread(workers.kill_one, rng)

    async def freeze_worker() -> None:
        await workers.freeze_one(rng, SETTINGS["claim_after_s"] + 1.5)

    async def kill_redis() -> None:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)

    rounds = max(1, EVENTS // 10_000)
    blows_of_a_round = ((0.2, kill_worker), (0.35, freeze_worker), (0.55, kill_redis), (0.8, kill_worker))
    if rounds == 1:
        blows_of_a_round = blows_of_a_round[:3]  # a worker takes seconds to start
    plan = [(EVENTS * (turn + share) / rounds, what) for turn in range(rounds) for share, what in blows_of_a_round]
    with server, running(workers, 2):
        began = time.monotonic()
        blows = [when(lambda at=at: len(acknowledged) >= at * 0.9, what) for at, what in plan]  # type: ignore[misc]
        failed, *_ = await asyncio.gather(send(server.url, EVENTS, acknowledged), *blows)
        sent_s = time.monotonic() - began
        await asyncio.to_thread(drain, server.url, (tmp_path / "workers.log"))
        drained_s = time.monotonic() - began - sent_s
        assert set(await asyncio.to_thread(workers.end)) <= {0, -signal.SIGTERM}

    rows = live_shop.live()
    written = Counter(row["event_id"] for row in rows)
    print(
        f"{len(acknowledged):,} events acknowledged and {failed} refused in {sent_s:.1f} s, "
        f"all written {drained_s:.1f} s after the last; {len(plan)} blows"
    )
    assert len(acknowledged) + failed == EVENTS
    missing = acknowledged.keys() - written.keys()
    assert not missing, (len(missing), sorted(missing)[:5])
    twice = [event_id for event_id, count in written.items() if count > 1]
    assert not twice, (len(twice), twice[:5])
    # beyond them only what Redis took in but could not answer any more
    assert len(written) - len(acknowledged) <= failed
    assert all(
        acknowledged.get(row["event_id"], what) == what for row in rows for what in [(row["user_id"], row["item_id"])]
    )


def drain(url: str, log: Path) -> None:
    """Wait until every entry is acknowledged and trimmed away."""
    limit = time.monotonic() + DRAIN_LIMIT_S
    with redis.Redis.from_url(url) as client:
        while client.xlen(keys.EVENTS) or client.xpending(keys.EVENTS, keys.FEATURES_GROUP)["pending"]:
            if time.monotonic() > limit:
                state = client.xinfo_consumers(keys.EVENTS, keys.FEATURES_GROUP)
                raise AssertionError(f"not drained: {state}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        names = [row["name"].decode() for row in client.xinfo_consumers(keys.EVENTS, keys.FEATURES_GROUP)]
        assert not [name for name in names if name.startswith(COMMIT_PREFIX)]
        assert client.xlen(keys.DEAD_LETTERS) == 0
