"""Impressions on their way to the stream: a bounded queue, and one task that empties it.

An answer never waits for any of it. What finds the queue full, or Redis slow or gone, is shed and counted: impressions
are worth less than the answer, and each is offered to Redis once, so that none is counted twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal, Protocol

from cascade.online.errors import OnlineStoreDown
from cascade.serving.logging import get_logger

ShedReason = Literal["full", "store", "closing"]
SHED_REASONS: tuple[ShedReason, ...] = ("full", "store", "closing")

log = get_logger(__name__)


class ImpressionObserver(Protocol):
    """Where the fate of impressions is counted."""

    def impressions_written(self, count: int) -> None:
        """They are in the stream."""

    def impressions_shed(self, count: int, reason: ShedReason) -> None:
        """They are lost: the queue was full, Redis did not take them in time, or the gateway closed."""


class ImpressionLog:
    """Takes impressions at once and writes them in batches.

    append: writes a batch; raises OnlineStoreDown
    bound: most impressions that wait
    batch: most impressions of one write
    linger_s: how long the first of a batch waits for company, in seconds
    drain_s: how long `aclose` goes on writing, in seconds
    """

    def __init__(
        self,
        append: Callable[[Sequence[bytes]], Awaitable[None]],
        observer: ImpressionObserver,
        *,
        bound: int,
        batch: int = 256,
        linger_s: float = 0.0,
        drain_s: float = 1.0,
    ) -> None:
        self._append = append
        self._observer = observer
        self._waiting: asyncio.Queue[Callable[[], bytes]] = asyncio.Queue(bound)
        self._batch = batch
        self._linger_s = linger_s
        self._drain_s = drain_s
        self._writing: list[Callable[[], bytes]] = []
        self._store_is_down = False
        self._closed = False
        self._task = asyncio.create_task(self._write(), name="write impressions")

    def shown(self, make: Callable[[], bytes]) -> None:
        """Take an impression, or shed it; returns at once and never raises. It is made when it is written."""
        if self._closed:
            self._observer.impressions_shed(1, "closing")
            return
        try:
            self._waiting.put_nowait(make)
        except asyncio.QueueFull:
            self._observer.impressions_shed(1, "full")

    async def aclose(self) -> None:
        """Write what waits, for as long as it may take, and shed the rest."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._waiting.join()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        left = len(self._writing) + self._waiting.qsize()
        if left:
            self._observer.impressions_shed(left, "closing")
            log.warning("impressions are lost at the end", count=left)

    async def _write(self) -> None:
        while True:
            self._writing = [await self._waiting.get()]
            if self._linger_s > 0 and not self._closed:
                await asyncio.sleep(self._linger_s)
            while len(self._writing) < self._batch and not self._waiting.empty():
                self._writing.append(self._waiting.get_nowait())
            count = len(self._writing)
            try:
                await self._append([make() for make in self._writing])
            except OnlineStoreDown as error:
                self._observer.impressions_shed(count, "store")
                self._tell(down=True, error=str(error))
            except Exception:  # a defect must not end the log for good: the next batch is tried
                self._observer.impressions_shed(count, "store")
                log.exception("impressions could not be written")
            else:
                self._observer.impressions_written(count)
                self._tell(down=False)
            self._writing = []
            for _ in range(count):
                self._waiting.task_done()

    def _tell(self, *, down: bool, error: str | None = None) -> None:
        """Log a change of state, not every batch."""
        if down and not self._store_is_down:
            log.warning("impressions are shed: the store does not take them", error=error)
        elif self._store_is_down and not down:
            log.info("impressions are written again")
        self._store_is_down = down
