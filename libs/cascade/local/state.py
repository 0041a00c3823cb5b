"""What a local run keeps in `<state>/run/`: a lock, the process table, marks for parts stopped by hand, logs.

| file | holds |
| --- | --- |
| supervisor.lock | nothing; held (flock) by the supervisor for as long as it lives, so it cannot go stale |
| run.json | the process table, replaced atomically at each change |
| internal.token | the token of the services' internal endpoint, made anew by each run; its owner alone reads it |
| stopped/NAME | mark: this part is to stay down |
| NAME.log | what a part printed |
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cascade.local.errors import AlreadyRunning, NotRunning, UnknownPart

PartState = Literal["waiting", "starting", "running", "stopped", "restarting"]
Phase = Literal["building", "starting", "ready", "stopping"]


class PartStatus(BaseModel):
    """One part of the run as its supervisor sees it."""

    model_config = ConfigDict(frozen=True)

    name: str
    address: str
    state: PartState
    pid: int | None = None
    restarts: int = 0
    log: str = ""


class RunStatus(BaseModel):
    """The process table."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    pid: int
    phase: Phase
    shop: str = ""
    """where the data of the run lies"""
    parts: list[PartStatus] = []

    def part(self, name: str) -> PartStatus:
        """The part of that name. Raises UnknownPart."""
        for part in self.parts:
            if part.name == name:
                return part
        names = ", ".join(part.name for part in self.parts) or "none yet"
        raise UnknownPart(f"there is no part {name!r} in this run; its parts are {names}")


class RunFolder:
    """The folder of one local run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path / "supervisor.lock"
        self._table = path / "run.json"
        self._token = path / "internal.token"
        self._marks = path / "stopped"

    def log(self, name: str) -> Path:
        """The log file of a part."""
        return self.path / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; the system lets go of it when this process ends, however it ends.

        Raises AlreadyRunning when another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlreadyRunning(
                    f"Cascade already runs from {self.path.parent}; `cascade status` shows it, `cascade down` stops it"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether a supervisor lives."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def write(self, status: RunStatus) -> None:
        """Replace the process table."""
        beside = self._table.with_suffix(".json.new")
        beside.write_text(status.model_dump_json(indent=2))
        beside.replace(self._table)

    def read(self) -> RunStatus | None:
        """The last process table written, of a living run or of one that is gone; None when there is none."""
        try:
            return RunStatus.model_validate_json(self._table.read_text())
        except (FileNotFoundError, ValidationError):
            return None

    def running(self) -> RunStatus:
        """The process table of the living run. Raises NotRunning."""
        status = self.read()
        if not self.is_held() or status is None:
            raise NotRunning(f"Cascade does not run from {self.path.parent}; start it with `cascade up`")
        return status

    def remove_table(self) -> None:
        """Forget the run: every process of it is gone."""
        self._table.unlink(missing_ok=True)
        self._token.unlink(missing_ok=True)

    def write_token(self, token: str) -> None:
        """Keep the run's token, readable by its owner alone from the first moment on."""
        self._token.unlink(missing_ok=True)
        descriptor = os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)

    def token(self) -> str | None:
        """The token of the living run; None where there is none."""
        try:
            return self._token.read_text() or None
        except FileNotFoundError:
            return None

    def mark_stopped(self, name: str) -> None:
        """Ask the supervisor to stop a part and leave it down."""
        self._marks.mkdir(parents=True, exist_ok=True)
        (self._marks / name).touch()

    def unmark(self, name: str) -> None:
        """Ask the supervisor to start a part again."""
        (self._marks / name).unlink(missing_ok=True)

    def is_marked(self, name: str) -> bool:
        """Whether the part is to stay down."""
        return (self._marks / name).exists()

    def clear_marks(self) -> None:
        """Every part may run."""
        for mark in self._marks.glob("*"):
            mark.unlink(missing_ok=True)
