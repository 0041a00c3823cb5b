"""Memory that goes back to the system, so that a worker of weeks is as large as one of an hour.

Many threads allocate here, some of them for the length of a push (DuckDB's). Arrow's own allocator keeps what each of
them had; glibc's keeps it too, but can be told to give it back.
"""

from __future__ import annotations

import ctypes
import os

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it


def use_system_allocator() -> None:
    """Arrow allocates like everyone else, where the environment does not say how. Before it is imported: its own
    allocator is chosen then, and `pyarrow.set_memory_pool` reaches a part of it alone."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def give_back() -> None:
    """Free pages to the system; a millisecond or two. Does nothing where the C library has no such call."""
    if _trim is not None:
        _trim(0)
