from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascade.serving.errors import QueueFull
from cascade.serving.limit import ConcurrencyLimit
from cascade.serving.metrics import ServiceMetrics


async def test_at_most_so_many_at_once_and_so_many_waiting(eventually: Any) -> None:
    metrics = ServiceMetrics("test")
    limit = ConcurrencyLimit(2, 1, metrics)
    leave = asyncio.Event()
    inside = 0

    async def work() -> float:
        nonlocal inside
        async with limit.slot() as waited:
            inside += 1
            await leave.wait()
            inside -= 1
            return waited

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await eventually(lambda: limit.waiting == 1)
    assert inside == 2
    assert metrics.registry.get_sample_value("cascade_queue_depth", {"service": "test"}) == 1
    with pytest.raises(QueueFull):
        await work()
    leave.set()
    assert all(waited >= 0 for waited in await asyncio.gather(*tasks))
    assert limit.waiting == 0
    assert metrics.registry.get_sample_value("cascade_queue_wait_seconds_count", {"service": "test"}) == 3


async def test_giving_up_while_waiting_frees_the_place(eventually: Any) -> None:
    limit = ConcurrencyLimit(1, 1)
    async with limit.slot():
        task = asyncio.create_task(limit.slot().__aenter__())
        await eventually(lambda: limit.waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limit.waiting == 0
    async with limit.slot() as waited:
        assert waited >= 0


async def test_an_error_inside_frees_the_slot() -> None:
    limit = ConcurrencyLimit(1, 0)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with limit.slot():
                raise KeyError
