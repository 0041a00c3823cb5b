"""Server-sent events (the HTML standard's text/event-stream): what changed, told to pages that stay open.

A stream polls its source, tells what it gives, and ends when its reader goes, when the process is asked to end, or not
at all. How many may be open is bounded: each holds a connection and asks its source again and again.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from cascade.serving.errors import QueueFull

RETRY_MS = 1000
"""After which a page whose stream broke asks again."""
QUIET_S = 15.0
"""A stream that tells nothing for so long sends a comment, so that proxies keep it."""


@dataclass(frozen=True)
class ServerEvent:
    """One event. data: anything that is JSON."""

    name: str
    data: Any

    def encode(self) -> bytes:
        """As the wire has it; JSON holds no line breaks."""
        return b"event: %b\ndata: %b\n\n" % (self.name.encode(), orjson.dumps(self.data))


Poll = Callable[[], Awaitable[Sequence[ServerEvent]]]
"""What is new since the last time it was asked."""


class EventStreams:
    """The open streams of one app.

    most: how many may be open at once
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._closing = asyncio.Event()

    @property
    def open(self) -> int:
        """Streams that are open now."""
        return self._open

    def close(self) -> None:
        """End all of them; for the event loop's thread."""
        self._closing.set()

    def response(self, poll: Poll, every_s: float) -> EventResponse:
        """A stream that asks `poll` every so many seconds. Raises QueueFull beyond the bound."""
        if self._open >= self._most:
            raise QueueFull(f"{self._open} event streams are open, the bound is {self._most}", retry_after_s=5)
        return EventResponse(self, poll, every_s)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts as open while the block runs."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def lines(self, poll: Poll, every_s: float) -> AsyncIterator[bytes]:
        """What goes over the wire."""
        yield b"retry: %d\n\n" % RETRY_MS
        told = time.monotonic()
        while not self._closing.is_set():
            for event in await poll():
                told = time.monotonic()
                yield event.encode()
            if time.monotonic() - told > QUIET_S:
                told = time.monotonic()
                yield b":\n\n"
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._closing.wait()

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """While the block runs, SIGTERM and SIGINT end the streams before the server's own handlers run.

        The server waits for open connections before it ends the app, so the app would learn of it too late. Only the
        main thread may handle signals: elsewhere (tests) the block changes nothing.
        """
        loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def handler(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.close)
            own = before[signal.Signals(number)]
            if callable(own):
                own(number, frame)

        # A default handler ends the process at once, streams and all: nothing to add to it.
        ours = [number for number, own in before.items() if callable(own)]
        for number in ours:
            signal.signal(number, handler)
        try:
            yield
        finally:
            for number in ours:
                if signal.getsignal(number) is handler:
                    signal.signal(number, before[number])


class EventResponse(StreamingResponse):
    """One stream."""

    media_type = "text/event-stream"

    def __init__(self, streams: EventStreams, poll: Poll, every_s: float) -> None:
        headers: Mapping[str, str] = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(streams.lines(poll, every_s), headers=headers)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.counted():
            await super().__call__(scope, receive, send)
