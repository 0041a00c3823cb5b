"""Micro-batching: concurrent requests share one forward pass.

The event loop collects; it computes as well, or one worker thread does. A request that finds no batch running starts at
once. While a batch runs, requests gather for the next one, so batches grow with the load and no timer is needed;
`max_wait_s` adds a bounded wait under load for those who want fuller batches.

Computed in the loop, a request pays no hand-over to a thread and back (a tenth of a millisecond, and the interpreter
lock changes hands twice), but the loop reads nothing meanwhile: right for computations of a few milliseconds that would
hold the lock anyway. In a thread, the loop goes on reading: right for those that wait for a GPU.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from cascade import deadline, tracing
from cascade.deadline import DeadlineSpent
from cascade.serving.errors import Closed, QueueFull
from cascade.serving.metrics import ServiceMetrics

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """A result, how long its request waited, and how long its batch computed (milliseconds)."""

    value: Result
    queue_ms: float
    compute_ms: float


@dataclass(eq=False)
class _Entry(Generic[Request, Result]):
    request: Request
    future: asyncio.Future[Batched[Result]]
    arrived: float
    until: float | None = None
    exemplar: dict[str, str] | None = None


_Batch = list[_Entry[Request, Result]]


class MicroBatcher(Generic[Request, Result]):
    """Puts requests together and runs `compute` on them in a thread of its own.

    compute: as many results as requests, in their order. An exception in place of a result is raised at that request
    alone; an exception that `compute` raises, at every request of its batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Request]], Sequence[Result | Exception]],
        *,
        max_size: int,
        queue_bound: int,
        max_wait_s: float = 0.0,
        in_thread: bool = True,
        metrics: ServiceMetrics | None = None,
        name: str = "batcher",
    ) -> None:
        """
        in_thread: compute in a thread of its own; otherwise in the event loop, which reads nothing meanwhile
        max_size: most requests in one batch
        queue_bound: most requests that wait; beyond it QueueFull
        max_wait_s: how long a batch that follows another waits to fill up; a lone request never waits
        """
        self._compute = compute
        self._max_size = max_size
        self._queue_bound = queue_bound
        self._max_wait_s = max_wait_s
        self._in_thread = in_thread
        self._metrics = metrics
        self._name = name
        self._pending: deque[_Entry[Request, Result]] = deque()
        self._work: SimpleQueue[_Batch[Request, Result] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._busy = False
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self._drained = asyncio.Event()
        self._shown = 0

    def compute_in_thread(self, in_thread: bool) -> None:
        """Where the next batches are computed: see `in_thread` at the start."""
        self._in_thread = in_thread

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return len(self._pending)

    async def submit(self, request: Request) -> Batched[Result]:
        """The result for one request.

        Raises QueueFull beyond the bound, Closed after `aclose`, DeadlineSpent where its turn comes too late, and what
        the computation raised for this request.
        """
        if self._closed:
            raise Closed("the service is shutting down")
        if len(self._pending) >= self._queue_bound:
            raise QueueFull(f"{len(self._pending)} requests wait, the bound is {self._queue_bound}")
        loop = self._start()
        arrived = time.perf_counter()
        entry = _Entry(request, loop.create_future(), arrived, deadline.moment(), tracing.exemplar())
        self._pending.append(entry)
        self._show_depth()
        if not self._busy and self._timer is None:
            # After the callbacks that are due now: requests that arrived together go together.
            self._timer = loop.call_soon(self._dispatch)
        elif self._timer is not None and len(self._pending) >= self._max_size:
            self._timer.cancel()
            self._dispatch()
        try:
            batched = await entry.future
        except asyncio.CancelledError:
            self._forget(entry)
            raise
        if entry.exemplar is not None:
            computing = arrived + batched.queue_ms / 1000
            tracing.past("queue", arrived, computing)
            tracing.past("compute", computing, computing + batched.compute_ms / 1000)
        return batched

    async def aclose(self) -> None:
        """Take no more requests, finish those that wait, end the thread."""
        self._closed = True
        if self._busy or self._pending:
            await self._drained.wait()
        if self._thread is not None:
            self._work.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _forget(self, entry: _Entry[Request, Result]) -> None:
        """The caller of a request gave up: do not compute it, and let another have its place."""
        try:
            self._pending.remove(entry)
        except ValueError:
            return  # its batch runs already; the result goes nowhere
        self._show_depth()

    def _dispatch(self) -> None:
        """Compute the next batch, or hand it to the thread. On the event loop."""
        self._timer = None
        batch = self._next_batch()
        self._show_depth()
        if batch:
            self._busy = True
            if self._in_thread:
                if self._thread is None:
                    # A daemon, so that a computation that hangs cannot hold the process at exit.
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
                self._work.put(batch)
            else:
                self._finish(batch, *self._computed(batch))
        elif self._closed:
            self._drained.set()

    def _next_batch(self) -> _Batch[Request, Result]:
        """The oldest requests that still have time; those that have none are told."""
        batch: _Batch[Request, Result] = []
        now = time.monotonic()
        while self._pending and len(batch) < self._max_size:
            entry = self._pending.popleft()
            if entry.until is None or now < entry.until:
                batch.append(entry)
            elif not entry.future.done():
                entry.future.set_exception(DeadlineSpent())
        return batch

    def _run(self) -> None:
        """The worker thread."""
        assert self._loop is not None  # noqa: S101  (set before the thread starts)
        while (batch := self._work.get()) is not None:
            try:
                self._loop.call_soon_threadsafe(self._finish, batch, *self._computed(batch))
            except RuntimeError:  # the loop was closed without `aclose`: nobody waits any more
                return

    def _computed(self, batch: _Batch[Request, Result]) -> tuple[Sequence[Result | Exception], float, float]:
        """Results, when it started and when it ended."""
        started = time.perf_counter()
        results: Sequence[Result | Exception]
        try:
            results = self._compute([entry.request for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
        except Exception as error:
            results = [error] * len(batch)
        return results, started, time.perf_counter()

    def _finish(
        self,
        batch: _Batch[Request, Result],
        results: Sequence[Result | Exception],
        started: float,
        ended: float,
    ) -> None:
        """Hand the results out and go on. On the event loop."""
        if self._metrics is not None:
            self._metrics.batch_size.observe(len(batch))
        for entry, result in zip(batch, results, strict=True):
            if self._metrics is not None:
                self._metrics.queue_wait.observe(started - entry.arrived, entry.exemplar)
                self._metrics.compute.observe(ended - started, entry.exemplar)
            if entry.future.done():  # cancelled while its batch ran
                continue
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(Batched(result, 1000 * (started - entry.arrived), 1000 * (ended - started)))
        self._busy = False
        assert self._loop is not None  # noqa: S101
        if self._max_wait_s > 0 and self._pending and len(self._pending) < self._max_size and not self._closed:
            self._timer = self._loop.call_later(self._max_wait_s, self._dispatch)
        elif self._in_thread or not self._pending:
            self._dispatch()
        else:  # let the loop read and answer between two batches
            self._timer = self._loop.call_soon(self._dispatch)

    def _show_depth(self) -> None:
        """By the difference: the batchers of one service add up in one gauge."""
        if self._metrics is not None:
            self._metrics.queue_depth.inc(len(self._pending) - self._shown)
            self._shown = len(self._pending)
