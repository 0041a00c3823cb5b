"""A bound on work in flight for services whose work is waiting (on Redis), not computing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cascade import tracing
from cascade.serving.errors import QueueFull
from cascade.serving.metrics import ServiceMetrics


class ConcurrencyLimit:
    """At most `limit` at once and `queue_bound` waiting; beyond that QueueFull."""

    def __init__(self, limit: int, queue_bound: int, metrics: ServiceMetrics | None = None) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._queue_bound = queue_bound
        self._waiting = 0
        self._metrics = metrics

    @property
    def full(self) -> bool:
        """Whether a request that came now would be refused."""
        return self._slots.locked() and self._waiting >= self._queue_bound

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self._waiting

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """A place to work in; gives the seconds waited for it."""
        started = time.perf_counter()
        if self._slots.locked():
            if self._waiting >= self._queue_bound:
                raise QueueFull(f"{self._waiting} requests wait, the bound is {self._queue_bound}")
            self._count(1)
            try:
                with tracing.span("queue"):
                    await self._slots.acquire()
            finally:
                self._count(-1)
        else:
            await self._slots.acquire()
        waited = time.perf_counter() - started
        if self._metrics is not None:
            self._metrics.queue_wait.observe(waited, tracing.exemplar())
        try:
            yield waited
        finally:
            self._slots.release()

    def _count(self, change: int) -> None:
        self._waiting += change
        if self._metrics is not None:
            self._metrics.queue_depth.set(self._waiting)
