"""How far a running asset is: bars in a terminal, a line every tenth in Dagster's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dagster import DagsterLogManager
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Report = Callable[..., None]
"""Called with (done, total) and, where there is one, the loss."""


class Reporter(Protocol):
    """Makes the callback that an asset's work reports to."""

    def start(self, asset: str, log: DagsterLogManager) -> Report: ...
    def finish(self, asset: str, summary: str) -> None: ...


class LogReporter:
    """Dagster's log, at most eleven lines an asset."""

    def start(self, asset: str, log: DagsterLogManager) -> Report:
        last = -1

        def report(done: float, total: float, loss: float | None = None, *_: Any) -> None:
            nonlocal last
            tenth = int(10 * done / total) if total else 10
            if tenth > last:
                last = tenth
                log.info(f"{asset}: {done:g} of {total:g}" + (f", loss {loss:.4f}" if loss is not None else ""))

        return report

    def finish(self, asset: str, summary: str) -> None:
        """Dagster shows the metadata itself."""


class TerminalReporter:
    """One bar an asset."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>4.0f} %"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, Any] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw until the block ends."""
        with self._progress:
            yield

    def start(self, asset: str, log: DagsterLogManager) -> Report:
        task = self._progress.add_task(asset, total=1.0, note="")
        self._tasks[asset] = task

        def report(done: float, total: float, loss: float | None = None, *_: Any) -> None:
            note = f"loss {loss:.4f}" if loss is not None else ""
            self._progress.update(task, completed=done / total if total else 1.0, note=note)

        return report

    def finish(self, asset: str, summary: str) -> None:
        self._progress.update(self._tasks[asset], completed=1.0, note=summary)
        self._progress.stop_task(self._tasks[asset])


_reporter: Reporter = LogReporter()


def reporter() -> Reporter:
    """The reporter of this process."""
    return _reporter


@contextmanager
def reporting_to(other: Reporter) -> Iterator[None]:
    """Use another reporter within the block."""
    global _reporter
    before, _reporter = _reporter, other
    try:
        yield
    finally:
        _reporter = before
