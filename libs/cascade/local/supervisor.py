"""`cascade up`: brings the parts of a run up in order, keeps them up, takes them down in reverse."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console

from cascade.local.errors import BuildFailed, PartFailed, StopFailed
from cascade.local.parts import Part, python
from cascade.local.probes import require_free
from cascade.local.processes import RUN_ID_VARIABLE, Child, end, of_run
from cascade.local.state import PartState, PartStatus, Phase, RunFolder, RunStatus

TICK_S = 0.1
START_LIMIT_S = 180.0
LOG_LINES_SHOWN = 12


class Interrupted(Exception):
    """A signal asked the run to end."""


@dataclass(frozen=True)
class Backoff:
    """How long a part that ended waits for its next start: doubling, forgotten once it has run a while (seconds)."""

    first_s: float = 0.5
    longest_s: float = 30.0
    forget_after_s: float = 30.0

    def delay_s(self, failures: int) -> float:
        """Seconds before start number `failures` + 1."""
        return float(min(self.first_s * 2 ** max(failures - 1, 0), self.longest_s))


@dataclass
class _Supervised:
    part: Part
    state: PartState = "waiting"
    child: Child | None = None
    restarts: int = 0
    failures: int = 0
    started_at: float = 0.0
    due_at: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What to run: `before` the build, the build, `after` it.

    build: program and environment, or None for nothing to build
    prepare: runs before anything starts, with the run's folder held (an external Redis must answer)
    shop: where the data lies, for whoever asks what runs
    """

    before: Sequence[Part]
    after: Sequence[Part]
    build: tuple[Sequence[str], dict[str, str]] | None = None
    prepare: Callable[[], None] = field(default=lambda: None)
    shop: str = ""


class Supervisor:
    """One local run. Blocks in `run` until a signal ends it; call it from the main thread."""

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        console: Console,
        backoff: Backoff | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._console = console
        self._backoff = backoff or Backoff()
        self._on_ready = on_ready or (lambda: None)
        self._run_id = uuid.uuid4().hex
        self._phase: Phase = "building"
        self._parts = [_Supervised(part) for part in (*plan.before, *plan.after)]
        self._interrupted = False

    def run(self) -> None:
        """Everything up, kept up until SIGINT or SIGTERM, everything down.

        Raises:
            AlreadyRunning: the state folder is another supervisor's
            PortTaken: something listens on a part's port
            BuildFailed, PartFailed: it did not come up; whatever had started is down again
            StopFailed: a process would not end
        """
        with self._folder.locked(), self._signals():
            self._sweep_last_run()
            self._folder.clear_marks()
            for supervised in self._parts:
                part = supervised.part
                require_free(part.host, part.port, part.name, part.port_setting)
            with self._guard():
                try:
                    self._bring_up()
                    self._keep_up()
                except Interrupted:
                    self._console.print("Stopping …")
                finally:
                    self._take_down()
            self._folder.remove_table()

    # Up

    def _bring_up(self) -> None:
        before = self._parts[: len(self._plan.before)]
        after = self._parts[len(self._plan.before) :]
        self._write()
        self._plan.prepare()
        self._start_and_wait(before)
        self._build()
        self._phase = "starting"
        self._start_and_wait(after)
        self._on_ready()
        self._phase = "ready"
        self._write()

    def _build(self) -> None:
        if self._plan.build is None:
            return
        argv, environment = self._plan.build
        build = Child.start(argv, environment, self._run_id, log=None)
        try:
            while build.exit_code() is None:
                self._pause()
        finally:
            build.stop(grace_s=10.0)
        if code := build.exit_code():
            raise BuildFailed(
                f"the build ended with exit code {code}; what it printed above says why. "
                "Finished assets are kept, so the next `cascade up` goes on from there"
            )

    def _start_and_wait(self, group: Sequence[_Supervised]) -> None:
        """Start a group at once and wait until each answers. Raises PartFailed."""
        for supervised in group:
            self._start(supervised)
        limit = time.monotonic() + START_LIMIT_S
        waiting = list(group)
        with self._console.status("") as shown:
            while waiting:
                shown.update(f"Waiting for {', '.join(one.part.name for one in waiting)}")
                self._pause()
                for supervised in list(waiting):
                    self._require_alive(supervised)
                    if supervised.part.ready():
                        self._set(supervised, "running")
                        waiting.remove(supervised)
                if waiting and time.monotonic() > limit:
                    raise self._failure(waiting[0], f"was not ready after {START_LIMIT_S:.0f} s")

    def _require_alive(self, supervised: _Supervised) -> None:
        code = supervised.child.exit_code() if supervised.child else None
        if code is not None:
            raise self._failure(supervised, f"ended with exit code {code} while starting")

    def _log(self, supervised: _Supervised) -> Path:
        return supervised.part.log or self._folder.log(supervised.part.name)

    def _failure(self, supervised: _Supervised, what: str) -> PartFailed:
        log = self._log(supervised)
        return PartFailed(f"{supervised.part.name} {what}; the end of its log ({log}):\n{last_lines(log)}")

    # Kept up

    def _keep_up(self) -> None:
        while True:
            self._pause()
            for supervised in self._parts:
                self._tend(supervised)

    def _tend(self, supervised: _Supervised) -> None:
        part = supervised.part
        if self._folder.is_marked(part.name):
            if supervised.state != "stopped":
                self._stop(supervised)
                self._say(f"{part.name} is stopped; `cascade start {part.name}` starts it again")
        elif supervised.state == "stopped":
            self._start(supervised)
            self._say(f"{part.name} is started again")
        elif supervised.state == "restarting":
            if time.monotonic() >= supervised.due_at:
                self._start(supervised)
        elif supervised.child is not None and (code := supervised.child.exit_code()) is not None:
            self._note_death(supervised, code)
        elif supervised.state == "starting" and part.ready():
            self._set(supervised, "running")
            self._say(f"{part.name} is ready")

    def _note_death(self, supervised: _Supervised, code: int) -> None:
        if supervised.child is not None:
            supervised.child.stop(grace_s=1.0)  # what it started itself must not hold its port
        if time.monotonic() - supervised.started_at > self._backoff.forget_after_s:
            supervised.failures = 0
        supervised.failures += 1
        supervised.restarts += 1
        delay = self._backoff.delay_s(supervised.failures)
        supervised.due_at = time.monotonic() + delay
        self._set(supervised, "restarting")
        log = self._log(supervised)
        self._say(f"{supervised.part.name} ended with exit code {code}; starting it again in {delay:g} s (log: {log})")

    # Down

    def _take_down(self) -> None:
        self._phase = "stopping"
        self._write()
        for supervised in reversed(self._parts):
            self._stop(supervised)
        if left := end(of_run(self._run_id), grace_s=2.0):
            raise StopFailed(f"these processes would not end: {', '.join(str(one.pid) for one in left)}")

    def _sweep_last_run(self) -> None:
        """End what a supervisor that was killed may have left."""
        last = self._folder.read()
        if last is not None and (left := of_run(last.run_id)):
            self._say(f"ending {len(left)} processes that an earlier run left behind")
            end(left, grace_s=5.0)
        self._folder.remove_table()

    # Parts

    def _start(self, supervised: _Supervised) -> None:
        part = supervised.part
        supervised.child = Child.start(part.argv, part.environment, self._run_id, self._folder.log(part.name))
        supervised.started_at = time.monotonic()
        self._set(supervised, "starting")

    def _stop(self, supervised: _Supervised) -> None:
        if supervised.child is not None:
            supervised.child.stop(supervised.part.grace_s)
            supervised.child = None
        self._set(supervised, "stopped")

    def _set(self, supervised: _Supervised, state: PartState) -> None:
        supervised.state = state
        self._write()

    def _write(self) -> None:
        self._folder.write(
            RunStatus(
                run_id=self._run_id,
                pid=os.getpid(),
                phase=self._phase,
                shop=self._plan.shop,
                parts=[self._status(supervised) for supervised in self._parts],
            )
        )

    def _status(self, supervised: _Supervised) -> PartStatus:
        part, child = supervised.part, supervised.child
        return PartStatus(
            name=part.name,
            address=part.address,
            state=supervised.state,
            pid=child.pid if child is not None and supervised.state != "restarting" else None,
            restarts=supervised.restarts,
            log=str(self._log(supervised)),
        )

    # Signals, guard, words

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(_number: int, _frame: FrameType | None) -> None:
            self._interrupted = True

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """A process that ends the rest of the run should this one be killed."""
        environment = {name: value for name, value in os.environ.items() if name != RUN_ID_VARIABLE}
        with subprocess.Popen(
            python("-m", "cascade.local.guard", self._run_id),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ):
            yield

    def _pause(self) -> None:
        if self._interrupted:
            raise Interrupted
        time.sleep(TICK_S)

    def _say(self, sentence: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {sentence}", highlight=False)


def last_lines(path: Path, count: int = LOG_LINES_SHOWN) -> str:
    """The end of a text file; empty when it cannot be read."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
