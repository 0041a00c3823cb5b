"""Time, processor time and peak memory of a piece of work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SAMPLE_EVERY_S = 0.05


@dataclass
class Cost:
    """seconds: wall time. cpu_seconds: of all threads of this process, and of its children that have ended.

    peak_mb: the highest resident set of this process meanwhile, in MiB, sampled
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Fill in the cost of the block when it ends."""
    cost = Cost()
    process = psutil.Process()
    ended = threading.Event()

    def sample() -> None:
        while True:
            cost.peak_mb = max(cost.peak_mb, process.memory_info().rss / 2**20)
            if ended.wait(SAMPLE_EVERY_S):
                return

    sampler = threading.Thread(target=sample, daemon=True)
    started, worked = time.perf_counter(), _processor_seconds(process)
    sampler.start()
    try:
        yield cost
    finally:
        ended.set()
        sampler.join()
        cost.seconds = time.perf_counter() - started
        cost.cpu_seconds = _processor_seconds(process) - worked


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    spent: float = times.user + times.system + times.children_user + times.children_system
    return spent
