"""Timing of short calls, side by side in one process and on one thread."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

_AHEAD = 7
_TURN = 10
"""calls of a variant before it is the next one's turn"""
_UNTIMED = 2
"""calls at the start of a turn that only bring the caches back"""


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy's BLAS, torch and OpenMP on one thread, as services run."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def side_by_side(
    variants: Mapping[str, Callable[[Any], object]],
    inputs: Callable[[], Iterator[Any]],
    *,
    repeats: int,
    calls: int,
    pause_s: float = 0.0,
) -> dict[str, list[float]]:
    """Milliseconds a call of each variant: one median over `calls` a repeat.

    inputs: → the arguments of successive calls, made outside the timed part
    pause_s: time asleep before each call, as a service waits for its next request
    The variants take turns, some calls each, so that what else the machine does meets all of them alike and each finds
    the caches as it leaves them itself; each is some inputs ahead of the one before, so that none finds there what
    another has just fetched.
    """
    medians: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():  # set up what is set up in a first call
        for argument, _ in zip(inputs(), range(10), strict=False):
            call(argument)
    for _ in range(repeats):
        times: dict[str, list[float]] = {name: [] for name in variants}
        streams = {name: islice(inputs(), _AHEAD * place, None) for place, name in enumerate(variants)}
        gc.collect()
        gc.disable()
        try:
            while len(times[next(iter(times))]) < calls:
                for name, call in variants.items():
                    for turn in range(-_UNTIMED, _TURN):
                        argument = next(streams[name])
                        if pause_s:
                            time.sleep(pause_s)
                        started = time.perf_counter()
                        call(argument)
                        taken_s = time.perf_counter() - started
                        if turn >= 0:
                            times[name].append(taken_s)
        finally:
            gc.enable()
        for name, taken in times.items():
            medians[name].append(1000 * statistics.median(taken))
    return medians


def each_of(values: list[Any]) -> Callable[[], Iterator[Any]]:
    """Inputs that go round a list."""
    return lambda: cycle(values)


def fresh_texts(lists: list[list[str]]) -> Callable[[], Iterator[list[str]]]:
    """Inputs that go round lists of ids, as new strings each time: a parsed request's have no hash yet."""

    def go() -> Iterator[list[str]]:
        for texts in cycle(lists):
            yield [(text + " ")[:-1] for text in texts]

    return go


def gemm_peak(repeats: int) -> list[float]:
    """GFLOP/s of a 1,024³ float32 matrix product on this thread, one a repeat."""
    import numpy as np

    size = 1024
    left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    out = np.empty_like(left)
    np.matmul(left, right, out=out)
    speeds = []
    for _ in range(repeats):
        started = time.perf_counter()
        np.matmul(left, right, out=out)
        speeds.append(2 * size**3 / (time.perf_counter() - started) / 1e9)
    return speeds
