"""Memory that goes back to the system, so that a worker of weeks is as large as one of an hour.

Many threads allocate here, some of them for the length of a push (DuckDB's). Arrow's own allocator keeps what each of
them had; glibc's keeps it too, but can be told to give it back.
"""

from __future__ import annotations

import ctypes

import pyarrow as pa

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it


def use_system_allocator() -> None:
    """Arrow allocates like everyone else from now on."""
    pa.set_memory_pool(pa.system_memory_pool())


def give_back() -> None:
    """Free pages to the system; a millisecond or two. Does nothing where the C library has no such call."""
    if _trim is not None:
        _trim(0)
