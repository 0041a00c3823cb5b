"""How much of the machine other programs take while a row runs: what is slow then may be their doing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import psutil

_EVERY_S = 0.5


class OthersLoad:
    """Adds up, twice a second, what was busy and was none of ours.

    ours: → process ids of the row's own processes at the moment; those of this process come on top
    """

    def __init__(self, ours: Callable[[], Iterable[int]]) -> None:
        self._ours = ours
        self._busy_s = 0.0
        self._whole_s = 0.0

    @property
    def share(self) -> float:
        """Of the processor time there was."""
        return round(max(0.0, self._busy_s) / self._whole_s, 3) if self._whole_s else 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While the block runs."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        loop, before, mine = asyncio.get_running_loop(), _busy_s(), self._mine()
        at = loop.time()
        while True:
            await asyncio.sleep(_EVERY_S)
            now, mine_now, then = _busy_s(), self._mine(), loop.time()
            own = sum(used - mine.get(pid, 0.0) for pid, used in mine_now.items())
            self._busy_s += now - before - own
            self._whole_s += (then - at) * (os.cpu_count() or 1)
            before, mine, at = now, mine_now, then

    def _mine(self) -> dict[int, float]:
        found = {}
        for pid in (os.getpid(), *self._ours()):
            with suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                found[pid] = float(times.user + times.system)
        return found


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)
