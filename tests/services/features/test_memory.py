"""Memory goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from services.features import memory


def test_the_worker_allocates_by_the_system() -> None:
    told = "import services.features.__main__, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    assert _told(told) == "system"


def test_numeric_libraries_get_one_thread() -> None:
    imports = "import services.features.__main__, numpy, threadpoolctl"
    told = f"{imports}; print({{one['num_threads'] for one in threadpoolctl.threadpool_info()}})"
    assert _told(told) == "{1}"


@pytest.mark.skipif(memory._mallopt is None, reason="this C library has no arenas to bound")
def test_threads_share_an_arena(tmp_path: Path) -> None:
    file = tmp_path / "arenas.xml"
    told = f"""
import ctypes, threading
import services.features.__main__
together = threading.Barrier(4)
def allocate():
    held = [bytes(1000) for _ in range(1000)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(c.fopen({str(file)!r}.encode(), b"w"))
c.malloc_info(0, out)
c.fclose(out)
"""
    _told(told)
    assert file.read_text().count("<heap nr=") == 1


def _told(code: str) -> str:
    """What a fresh process prints, with no bound of this one's."""
    bounds = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_DEFAULT_MEMORY_POOL")
    own = {name: value for name, value in os.environ.items() if name not in bounds}
    told = [sys.executable, "-c", code]
    done = subprocess.run(told, capture_output=True, text=True, check=True, timeout=120, env=own)
    return done.stdout.strip()


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
