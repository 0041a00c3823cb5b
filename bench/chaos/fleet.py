"""The processes that faults happen to: Redis, the services and two gateways, each to be killed, hung or restarted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import redis

from bench.chaos.proxy import HarmfulProxy
from bench.system import settings_of
from cascade.local.parts import Part, features_part, python, service_parts
from cascade.online import keys
from cascade.online.server import RedisServer, free_port
from cascade.settings import Settings

BEHIND = ("retrieval", "filter", "ranker")
_READY_S = 180.0
_WORKER = {"CASCADE_FEATURES_FLUSH_S": "0.5", "CASCADE_FEATURES_CLAIM_AFTER_S": "2"}


@dataclass(frozen=True)
class Shape:
    """What a fleet looks like. Rows of the same shape share one.

    proxied: everybody reaches Redis through a HarmfulProxy
    replicas: of retrieval, filter and ranker each
    skews_s: seconds by which the clock of each gateway is off
    environment: of all services, beside what `cascade up` gives them
    """

    proxied: bool = False
    replicas: int = 1
    skews_s: tuple[float, float] = (0.0, 0.0)
    environment: tuple[tuple[str, str], ...] = ()


@dataclass
class Member:
    """One process of the fleet. name: `ranker`, `ranker-2`, `gateway-1`, `features`."""

    name: str
    part: Part
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return self.part.address

    def start(self) -> None:
        """Start it; it may take seconds until it is ready."""
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.part.environment}
            self.process = subprocess.Popen(self.part.argv, env=environment, stdout=log, stderr=log)

    async def ready(self) -> float:
        """Wait until it is ready; → that moment, of time.monotonic."""
        limit = time.monotonic() + _READY_S
        while not await asyncio.to_thread(self.part.ready):
            if self.process is None or self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(
                    f"{self.name} did not come up; the end of {self.log}:\n{self.log.read_text()[-3000:]}"
                )
            await asyncio.sleep(0.05)
        return time.monotonic()

    def kill(self) -> None:
        """SIGKILL, and gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and bytes, and does nothing with them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def end(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, and wait for the orderly end; → the exit code."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def metric(self, line: str) -> float:
        """The value of a line of its metrics page, found by how it begins; 0 where there is none."""
        page = httpx.get(f"{self.url}/metrics", timeout=10, trust_env=False).text
        values = [one.rpartition(" ")[2] for one in page.splitlines() if one.startswith(line)]
        return sum(map(float, values))


class RedisMember:
    """The Redis server, with the same verbs."""

    name = "redis"

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder, free_port(), appendfsync="everysec")

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._server.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server.start()

    async def ready(self) -> float:
        """See Member."""
        return time.monotonic()

    def kill(self) -> None:
        """See Member."""
        self._signal(signal.SIGKILL)
        self._server.stop()

    def freeze(self) -> None:
        """See Member."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """See Member."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """An orderly end, whatever state it is in."""
        if self._server.running:
            self.thaw()
        self._server.stop()

    def command(self, *parts: str) -> object:
        """Run a command, around any proxy."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*parts)

    def _signal(self, number: signal.Signals) -> None:
        assert self._server.pid is not None
        os.kill(self._server.pid, number)


class Fleet:
    """Everything that runs. members: by name; redis apart."""

    def __init__(self, settings: Settings, server: RedisMember, proxy: HarmfulProxy | None, logs: Path) -> None:
        self.settings = settings
        self.redis = server
        self.proxy = proxy
        self.members: dict[str, Member] = {}
        self._logs = logs
        read = lambda file, column: pq.read_table(settings.dataset_dir / file, columns=[column]).column(0).to_pylist()  # noqa: E731
        self.users: list[str] = read("users.parquet", "user_id")
        self.items: list[str] = read("items.parquet", "item_id")

    @property
    def gateways(self) -> list[Member]:
        return [self.members["gateway-1"], self.members["gateway-2"]]

    def pids(self) -> list[int]:
        """Process ids of all that runs at the moment."""
        return list(self.pids_by_name().values())

    def pids_by_name(self) -> dict[str, int]:
        """Name → process id, of all that runs at the moment."""
        running = {name: one.process for name, one in self.members.items() if one.process is not None}
        found = {name: process.pid for name, process in running.items() if process.poll() is None}
        return found if self.redis.pid is None else {**found, self.redis.name: self.redis.pid}

    def add(self, name: str, part: Part, environment: Mapping[str, str]) -> Member:
        """Start one more process."""
        part = replace(part, environment={**part.environment, **environment})
        member = self.members[name] = Member(name, part, self._logs / f"{name}.log")
        member.start()
        return member

    def end(self) -> None:
        """Nothing is left behind, whatever state it is in."""
        for member in self.members.values():
            member.kill()
        self.redis.stop()


@asynccontextmanager
async def fleet(state: Path, folder: Path, shape: Shape) -> AsyncIterator[Fleet]:
    """Over a copy of a built state folder; everything is ready when the block begins, and gone after it."""
    copy = folder / "state"
    for name in ("models", "feast", "shop", "redis"):
        shutil.copytree(state / name, copy / name, ignore=shutil.ignore_patterns(".staging"))
    server = RedisMember(copy / "redis")
    server.start()
    proxy: HarmfulProxy | None = None
    running: Fleet | None = None
    try:
        server.command("DEL", keys.EVENTS, keys.IMPRESSIONS)  # what was left there would keep the worker busy
        if shape.proxied:
            proxy = HarmfulProxy(server.port)
            await proxy.start()
        settings = settings_of(copy, server.port if proxy is None else proxy.port)
        running = Fleet(settings, server, proxy, folder)
        await _start(running, shape)
        yield running
    finally:
        if running is not None:
            running.end()
        server.stop()
        if proxy is not None:
            await proxy.aclose()


async def _start(running: Fleet, shape: Shape) -> None:
    redis_port, state = running.settings.redis_port, running.settings.state_dir
    common = dict(shape.environment)
    urls: dict[str, list[str]] = {service: [] for service in BEHIND}
    for replica in range(shape.replicas):
        parts = {part.name: part for part in service_parts(settings_of(state, redis_port))}
        for service in BEHIND:
            name = service if shape.replicas == 1 else f"{service}-{replica + 1}"
            urls[service].append(running.add(name, parts[service], common).url)
    running.add("features", features_part(settings_of(state, redis_port)), _WORKER | common)
    behind = {f"CASCADE_GATEWAY_{service.upper()}_URL": ",".join(addresses) for service, addresses in urls.items()}
    for number, skew_s in enumerate(shape.skews_s, 1):
        (part,) = (one for one in service_parts(settings_of(state, redis_port)) if one.name == "gateway")
        if skew_s:
            part = replace(part, argv=python("-m", "bench.chaos.skewed_gateway", str(skew_s)))
        running.add(f"gateway-{number}", part, behind | {"CASCADE_GATEWAY_ACCESS_LOG": "false"} | common)
    await ready(list(running.members.values()))


async def ready(members: Sequence[Member]) -> float:
    """Wait for all of them; → when the last was ready, of time.monotonic."""
    return max(await asyncio.gather(*(member.ready() for member in members)))
