"""Memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pyarrow as pa
import pytest

from services.features import memory


def test_the_worker_allocates_by_the_system() -> None:
    told = "import services.features.__main__, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "system"


@pytest.mark.skipif(memory._trim is None, reason="this C library cannot be told to give memory back")
def test_free_pages_go_back() -> None:
    def resident() -> int:
        return psutil.Process().memory_info().rss

    pool = pa.system_memory_pool()
    held = [pa.allocate_buffer(60_000, pool) for _ in range(1000)]  # too small for a mapping each
    for buffer in held:
        memoryview(buffer).cast("B")[::4096] = bytes(len(range(0, 60_000, 4096)))
    pins = held[::100]  # free pages lie between what stays
    del held, buffer
    before = resident()
    memory.give_back()
    assert before - resident() > 30_000_000
    assert len(pins) == 10
