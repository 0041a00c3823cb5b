"""Every gateway looks at the store for the canaries that run, so that an abort reaches all of them by itself.

A store that cannot be read leaves what is known, for a bounded time: a canary that nobody could stop any more ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from cascade.api.gateway import Stage
from cascade.serving.logging import get_logger
from cascade.store.canary import Canary
from services.gateway.tracks import TRACKED, Tracks

Read = Callable[[str], Canary | None]
"""Service → what the store says of its canary. Blocks; may raise anything."""

log = get_logger(__name__)


class CanaryObserver(Protocol):
    """Is told what this gateway knows of canaries."""

    def share(self, service: Stage, percent: float) -> None:
        """So many of the users are in the service's canary now."""

    def unread(self, service: Stage) -> None:
        """The store did not tell."""


class CanaryWatch:
    """Keeps the Tracks at what the store says.

    poll_s: time between looks, in seconds, and how long each may take
    keep_s: how long a canary goes on while the store cannot be read, in seconds
    """

    def __init__(
        self,
        read: Read,
        tracks: Tracks,
        observer: CanaryObserver,
        *,
        poll_s: float,
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._tracks = tracks
        self._observer = observer
        self._poll_s = poll_s
        self._keep_s = keep_s
        self._clock = clock
        self._reading: dict[Stage, asyncio.Task[Canary | None]] = {}
        self._read_at: dict[Stage, float] = {}
        self._failing: set[Stage] = set()
        self._task: asyncio.Task[None] | None = None
        for service in TRACKED:
            observer.share(service, 0.0)

    async def start(self) -> None:
        """Look now, and from then on again and again."""
        await self.look()
        self._task = asyncio.create_task(self._follow(), name="follow canaries")

    async def aclose(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for reading in self._reading.values():
            reading.cancel()

    async def look(self) -> Mapping[Stage, float]:
        """Look at once; → the share of users in each service's canary afterwards, percent."""
        await asyncio.gather(*(self._look(service) for service in TRACKED))
        running = self._tracks.running
        return {service: running[service].percent if service in running else 0.0 for service in TRACKED}

    async def _look(self, service: Stage) -> None:
        # A read that hangs is left to its thread and waited for again: one at a time, or they would use threads up.
        reading = self._reading.get(service)
        if reading is None:
            reading = asyncio.create_task(asyncio.to_thread(self._read, service))
            self._reading[service] = reading
        done, _ = await asyncio.wait({reading}, timeout=self._poll_s)
        if not done:
            self._unread(service, f"no answer within {self._poll_s:g} s")
            return
        self._reading.pop(service, None)
        try:
            canary = reading.result()
        except Exception as error:  # whatever the store's file system raises, or a file that tells of no canary
            self._unread(service, f"{type(error).__name__}: {error}")
            return
        self._read_at[service] = self._clock()
        if service in self._failing:
            self._failing.discard(service)
            log.info("the store tells of canaries again", service=service)
        self._set(service, canary, "ended" if canary is None or not canary.reason else canary.reason)

    def _unread(self, service: Stage, error: str) -> None:
        self._observer.unread(service)
        if service not in self._failing:
            self._failing.add(service)
            log.warning("the store does not tell of canaries", service=service, error=error)
        known_s = self._clock() - self._read_at.get(service, float("-inf"))
        if known_s >= self._keep_s:
            self._set(service, None, f"the store could not be read for {self._keep_s:g} s")

    def _set(self, service: Stage, canary: Canary | None, why: str) -> None:
        if not self._tracks.set(service, canary):
            return
        draw = self._tracks.running.get(service)
        self._observer.share(service, 0.0 if draw is None else draw.percent)
        if draw is None:
            log.info("no canary", service=service, why=why)
        else:
            log.info("canary", service=service, version=draw.version, percent=draw.percent)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()
