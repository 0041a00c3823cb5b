"""A build that is killed in the middle of an asset, and run again: it goes on from what is whole."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path

from bench.chaos.result import Result
from cascade.online.server import RedisServer, free_port
from cascade.settings import Settings
from cascade.store import ModelStore
from orchestration.checks import BLOCKING

_BUILD_S = 600.0
_DIES_BEFORE_THE_CHECK = """
import os, signal, sys
from orchestration import build, passed

asset, seal = sys.argv.pop(), passed.seal

def dies(artifact):
    if artifact.name == asset:
        os.kill(os.getpid(), signal.SIGKILL)
    return seal(artifact)

passed.seal = dies  # the first that a check asks for
sys.exit(build.main())
"""
SERVICES = ("retrieval", "ranker", "gateway")


class Builds:
    """Builds of the tiny shop in one folder, with a Redis of their own."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        values = {"state_dir": str(folder), "shop_size": "tiny", "clip_epochs": "1", "seed": "5"}
        values |= {"redis_url": server.url}
        self.settings = Settings(_env_file=None, **values)  # type: ignore[arg-type]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CASCADE_")}
        self._environment = environment | {f"CASCADE_{name.upper()}": value for name, value in values.items()}
        self._log = folder.with_suffix(".log")

    def start(self, *program: str) -> subprocess.Popen[bytes]:
        """A build in a session of its own, so that all of it can be killed at once. program: Python's arguments."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *(program or ("-m", "orchestration.build"))],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def complete(self) -> str:
        """Build whatever is missing; → what it printed. Raises RuntimeError where it fails."""
        code, printed = self.tried()
        if code != 0:
            raise RuntimeError(f"the build ended with {code}:\n{printed[-2000:]}")
        return printed

    def tried(self) -> tuple[int, str]:
        """Build whatever is missing; → the exit code, and what it printed."""
        before = self._log.stat().st_size if self._log.exists() else 0
        code = self.start().wait(_BUILD_S)
        return code, self._log.read_bytes()[before:].decode(errors="replace")

    def killed_before_the_check_of(self, asset: str) -> None:
        """Make this asset anew and SIGKILL the build once it is whole, before its blocking check has looked at it.

        Raises RuntimeError where the build ended otherwise.
        """
        shutil.rmtree(self.settings.artifacts_dir / asset)
        code = self.start("-c", _DIES_BEFORE_THE_CHECK, asset).wait(_BUILD_S)
        if code != -signal.SIGKILL or not (self.settings.artifacts_dir / asset).is_dir():
            raise RuntimeError(f"the build was not killed between {asset} and its check, but ended with {code}")

    def killed_in(self, among: Collection[str] | None, besides: Collection[str]) -> tuple[set[str], set[str]] | None:
        """Build until a step begins that is none of `besides` (and one of `among`, if given), then SIGKILL.

        → steps that were at work then, and those of the wanted that were over already; None where the build ended
        """
        known = set(self._runs())
        process = self.start()
        limit = time.monotonic() + _BUILD_S
        while process.poll() is None and time.monotonic() < limit:
            fresh = [run for run in self._runs() if run not in known]
            begun = {step for run in fresh for step in self._steps(run, "STEP_START")}
            wanted = (begun if among is None else begun & set(among)) - set(besides)
            if wanted:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                over = {step for run in fresh for step in self._steps(run, "STEP_SUCCESS")}
                return wanted - over, wanted & over
            time.sleep(0.005)
        return None

    def versions(self) -> Mapping[str, str | None]:
        """What serves: the content decides the version."""
        store = ModelStore(self.settings.model_store_url)
        return {service: store.alias(service, "stable") for service in SERVICES}

    def assets(self) -> set[str]:
        """Assets made in any run; checks are steps as well, and no assets."""
        return {step for run in self._runs() for step in self._steps(run, "ASSET_MATERIALIZATION")}

    def _runs(self) -> list[Path]:
        return list((self.settings.dagster_home / "history" / "runs").glob("*.db"))

    def _steps(self, run: Path, event: str) -> set[str]:
        """Steps of this run that had the event."""
        try:
            with closing(sqlite3.connect(f"file:{run}?mode=ro", uri=True, timeout=1)) as database:
                query = "select step_key from event_logs where dagster_event_type = ?"
                return {str(key) for (key,) in database.execute(query, (event,))}
        except sqlite3.Error:
            return set()  # just made, or being written


def run(result: Result, folder: Path, among: Collection[str] | None = None) -> None:
    """Kill a build in each of its assets, run it again after each, and compare with one that was left in peace."""
    began = time.monotonic()
    with RedisServer(folder / "redis-calm", free_port(), appendfsync="no") as server:
        calm = Builds(folder / "calm", server)
        calm.complete()
    with RedisServer(folder / "redis", free_port(), appendfsync="no") as server:
        builds, killed, over = Builds(folder / "killed", server), set[str](), set[str]()
        while (found := builds.killed_in(among, killed | over)) is not None:
            killed, over = killed | found[0], over | found[1]
        builds.complete()
        missed = set(calm.assets() if among is None else among) - killed - over
        result.require(not missed, f"not killed in {', '.join(sorted(missed))}")
        result.require(bool(killed), "killed in none")
        result.require(builds.versions() == calm.versions(), f"{builds.versions()} instead of {calm.versions()}")
        result.require("up to date" in builds.complete(), "a further build finds something to do")
        for asset, checks in BLOCKING.items():
            builds.killed_before_the_check_of(asset)
            told = builds.complete()
            result.require(all(check in told for check in checks), f"{asset} stays unchecked after a kill")
        result.require(builds.versions() == calm.versions(), f"{builds.versions()} after kills before checks")
        result.told.append(f"killed between an asset and its check, {len(BLOCKING)} times: the next build checks first")
        result.told.append(f"killed in {len(killed)} steps ({', '.join(sorted(killed))}); the same bundles in the end")
        if over:
            result.told.append(f"killed right after, since they took milliseconds: {', '.join(sorted(over))}")
    result.seconds = round(time.monotonic() - began, 1)
