"""Memory goes back to the system."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pyarrow as pa
import pytest

from services.features import memory


@pytest.fixture
def system_allocator() -> Iterator[None]:
    before = pa.default_memory_pool()
    memory.use_system_allocator()
    yield
    pa.set_memory_pool(before)


@pytest.mark.skipif(memory._trim is None, reason="this C library cannot be told to give memory back")
@pytest.mark.usefixtures("system_allocator")
def test_free_pages_go_back() -> None:
    def resident() -> int:
        return psutil.Process().memory_info().rss

    assert pa.default_memory_pool().backend_name == "system"
    held = [pa.allocate_buffer(60_000) for _ in range(1000)]  # too small for a mapping each
    for buffer in held:
        memoryview(buffer).cast("B")[::4096] = bytes(len(range(0, 60_000, 4096)))
    pins = held[::100]  # free pages lie between what stays
    del held, buffer
    before = resident()
    memory.give_back()
    assert before - resident() > 30_000_000
    assert len(pins) == 10
