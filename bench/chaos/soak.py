"""Half load for long: whether anything still grows once every cache and pool has reached its bound.

First comes a warm-up, in which growing is no fault: lists wait `attribution_s` (60 s) in the features worker for their
clicks, connections are idle for up to 75 s before they go, items are met for the first time, allocators make their
arenas. After it memory and open files of each process are looked at again and again. Memory's growth is that of the
line through all samples (Theil 1950 and Sen 1968: the median of the slopes of all pairs, which a peak does not move),
not the difference of two moments. Open files come and go with the load, so what counts is the fewest of the first and
of the last third: what leaks never goes.

Redis is told and not judged: it holds what visitors did, which is what it is for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil
from scipy.stats import theilslopes

from bench.chaos.fleet import Fleet, Shape
from bench.chaos.result import Grown
from bench.chaos.scene import Scene

WARM_UP_S = 180.0
OFFLINE_ROWS = 5000
OFFLINE_PUSH_S = 1.0
SHAPE = Shape(
    environment=(
        ("CASCADE_FEATURES_OFFLINE_ROWS", str(OFFLINE_ROWS)),
        ("CASCADE_FEATURES_OFFLINE_PUSH_S", str(OFFLINE_PUSH_S)),
    )
)
"""Feast's offline file is read and written whole by each push: its bound must be one that the warm-up reaches. So must
what DuckDB and the allocator keep for pushes, which grows for the first hundred of them: a quarter of an hour at one in
ten seconds."""
MOST_GROWTH = 1.0
MOST_FILES = 4
_EVERY_S = 2.0
_MOST_SAMPLES = 400
_FEWEST_SAMPLES = 6


@dataclass(frozen=True)
class Sample:
    """A process at a moment. at: seconds; rss: resident bytes; files: open descriptors."""

    at: float
    rss: int
    files: int


async def soak(scene: Scene) -> None:
    """Warm up, then watch for the row's time."""
    await asyncio.sleep(WARM_UP_S)
    every_s = max(_EVERY_S, scene.seconds / _MOST_SAMPLES)
    async with watched(scene.fleet, every_s) as samples:
        await scene.pass_time(1.0)
    result = scene.result
    result.told.append(f"watched for {scene.seconds:.0f} s after {WARM_UP_S:.0f} s of warm-up")
    for name, found in samples.items():
        grown = growth(name, found)
        result.grown.append(grown)
        if name == scene.fleet.redis.name:
            continue
        result.require(grown.percent < MOST_GROWTH, f"{name} grew by {grown.percent:.2f} %")
        more = grown.files_after - grown.files_before
        result.require(more <= MOST_FILES, f"{name} has {more} more files open")


@asynccontextmanager
async def watched(fleet: Fleet, every_s: float) -> AsyncIterator[dict[str, list[Sample]]]:
    """While the block runs: name of a process → its samples."""
    processes = {name: psutil.Process(pid) for name, pid in fleet.pids_by_name().items()}
    samples: dict[str, list[Sample]] = {name: [] for name in processes}

    async def look() -> None:
        while True:
            for name, process in processes.items():
                samples[name].append(Sample(time.monotonic(), process.memory_info().rss, process.num_fds()))
            await asyncio.sleep(every_s)

    task = asyncio.create_task(look())
    try:
        yield samples
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def growth(name: str, samples: Sequence[Sample]) -> Grown:
    """What the samples of one process tell. Raises ValueError for fewer than can tell anything."""
    if len(samples) < _FEWEST_SAMPLES:
        raise ValueError(f"{len(samples)} samples of {name} tell nothing; give {_FEWEST_SAMPLES} or more")
    first = samples[0].at
    line = theilslopes([one.rss for one in samples], [one.at - first for one in samples])
    slope, begins = float(line.slope), float(line.intercept)
    third = len(samples) // 3
    return Grown(
        name,
        mib=round(begins / 2**20, 1),
        percent=round(100 * slope * (samples[-1].at - first) / begins, 2),
        mib_an_hour=round(3600 * slope / 2**20, 2),
        files_before=min(one.files for one in samples[:third]),
        files_after=min(one.files for one in samples[-third:]),
        files_most=max(one.files for one in samples),
    )
