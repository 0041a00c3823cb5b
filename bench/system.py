"""The real thing, running: Redis, the services and the gateway as processes of their own, over the built `small` shop.

The state folder is `.cascade/bench/small`, or what CASCADE_BENCH_STATE names; where it holds no build yet, it is built
first, which takes a few minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from cascade.local.parts import Part, one_process_part, service_parts
from cascade.online.server import RedisServer, free_port
from cascade.settings import Settings
from cascade.store import ModelStore

_READY_S = 240.0
SERVICES = ("retrieval", "filter", "ranker")


@dataclass(frozen=True)
class Running:
    """One process. name: `gateway`, `ranker`, …; url: where it listens ("" for Redis)."""

    name: str
    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor seconds so far, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def state_folder() -> Path:
    """Where the built shop lies."""
    return Path(os.environ.get("CASCADE_BENCH_STATE", ".cascade/bench/small")).absolute()


def settings_of(state: Path, redis_port: int) -> Settings:
    """Settings over the built shop, with ports that are free."""
    ports = {f"{name}_port": free_port() for name in ("gateway", *SERVICES, "features", "dagster")}
    return Settings(_env_file=None, state_dir=state, redis_port=redis_port, **ports)


def built(state: Path) -> Path:
    """The folder, built where it was not."""
    if ModelStore(str(state / "models")).alias("gateway", "stable") is None:
        print(f"building the small shop in {state}", flush=True)
        names = ("gateway", *SERVICES, "features", "redis")
        environment = {f"CASCADE_{name.upper()}_PORT": str(free_port()) for name in names}
        environment |= {**os.environ, "CASCADE_STATE_DIR": str(state), "CASCADE_SHOP_SIZE": "small"}
        up = [sys.executable, "-m", "cascade.cli", "up", "--detach", "--no-dagster"]
        subprocess.run(up, env=environment, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*up[:3], "down"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return state


class System:
    """Redis and any number of services, each with its own settings."""

    def __init__(self, state: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._redis = RedisServer(state / "redis", free_port(), appendfsync="everysec")
        stack.enter_context(self._redis)
        self.settings = settings_of(state, self._redis.port)
        self.redis = Running("redis", "", psutil.Process(self._redis.pid))
        self.redis_url = self._redis.url
        self.users: list[str] = (
            pq.read_table(self.settings.dataset_dir / "users.parquet", columns=["user_id"]).column(0).to_pylist()
        )
        self.items: list[str] = (
            pq.read_table(self.settings.dataset_dir / "items.parquet", columns=["item_id"]).column(0).to_pylist()
        )

    def services(self, **environment: str) -> dict[str, Running]:
        """Retrieval, filter, ranker and a gateway over them. environment: beside what `cascade up` gives them."""
        # New ports each time, so that several variants can run side by side.
        settings = settings_of(self.settings.state_dir, self._redis.port)
        return {part.name: self._start(part, environment) for part in service_parts(settings)}

    def gateway(self, behind: Mapping[str, Running], **environment: str) -> Running:
        """One more gateway, over services that run already."""
        urls = {f"CASCADE_GATEWAY_{name.upper()}_URL": behind[name].url for name in SERVICES}
        settings = settings_of(self.settings.state_dir, self._redis.port)
        (part,) = (one for one in service_parts(settings) if one.name == "gateway")
        return self._start(part, {**urls, **environment})

    def service(self, name: str, argv: tuple[str, ...] | None = None, **environment: str) -> Running:
        """One service by itself. argv: another program in its place."""
        settings = settings_of(self.settings.state_dir, self._redis.port)
        (part,) = (one for one in service_parts(settings) if one.name == name)
        return self._start(part if argv is None else replace(part, argv=argv), environment)

    def one_process(self) -> Running:
        """All four in one process."""
        return self._start(one_process_part(settings_of(self.settings.state_dir, self._redis.port)), {})

    def _start(self, part: Part, environment: Mapping[str, str]) -> Running:
        process = subprocess.Popen(
            part.argv,
            env={**os.environ, **part.environment, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(_end, process)
        deadline = time.monotonic() + _READY_S
        while not part.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{part.name} did not come up (exit code {process.poll()}); run it by hand to see why"
                )
            time.sleep(0.1)
        return Running(part.name, part.address, psutil.Process(process.pid))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def system() -> Iterator[System]:
    """A system over the built shop; everything it started ends with the block."""
    with ExitStack() as stack:
        yield System(built(state_folder()), stack)
