"""Child processes that cannot be left behind.

Every process of a run carries the run's id in its environment, and so do its own children however they were started:
that is how all of them are found again. A child is the head of a session of its own, so that a Ctrl-C in the terminal
reaches the supervisor alone and the order of stopping is the supervisor's. On Linux the kernel ends a child when the
supervisor dies; the guard (`cascade.local.guard`) ends everything else, there and elsewhere.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

RUN_ID_VARIABLE = "CASCADE_LOCAL_RUN_ID"

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program starts, so that it ends with its parent; None where no such thing is.

    The signal comes when the parent's *thread* ends: start children from the main thread.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died in between
            os._exit(1)

    return prepare


class Child:
    """One child process in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        run_id: str,
        log: Path | None,
    ) -> Child:
        """Start a program.

        Args:
            argv: program and arguments
            environment: variables over this process's own
            run_id: the mark it is found by
            log: file its output is added to; None: it writes to this process's terminal
        """
        output: IO[bytes] | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            output = log.open("ab")
        try:
            process = subprocess.Popen(
                list(argv),
                env={**os.environ, **environment, RUN_ID_VARIABLE: run_id},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        finally:
            if output is not None:
                output.close()
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code, or None when it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_s: float) -> None:
        """End it and all it started: ask, wait up to `grace_s`, then force."""
        family = _family(self.pid)
        if self.exit_code() is None:
            self._process.terminate()
            if self.wait(grace_s) is None:
                self._process.kill()
                self._process.wait()
        end(family, grace_s=1.0)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def of_run(run_id: str) -> list[psutil.Process]:
    """Every living process that carries the run's id, this one left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(RUN_ID_VARIABLE) == run_id
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # gone meanwhile, or another user's
    return found


def end(processes: Sequence[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """Ask the processes to end, force those that still run after `grace_s`; returns what even that left."""
    _signal(processes, signal.SIGTERM)
    _, alive = psutil.wait_procs(list(processes), timeout=grace_s)
    _signal(alive, signal.SIGKILL)
    _, left = psutil.wait_procs(alive, timeout=5.0)
    return list(left)


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
