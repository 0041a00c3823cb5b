"""Memory that goes back to the system, so that a worker of weeks is as large as one of an hour.

Many threads allocate here, some of them for the length of a push (DuckDB's). Arrow's own allocator keeps what each of
them had. glibc's makes an arena for each, where what lives long, among what does not, keeps pages from going back; one
arena for all has fewer such gaps, and what is large has a mapping of its own, which ends with it.
"""

from __future__ import annotations

import ctypes
import os

# of malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE = 128 * 1024
"""bytes; glibc begins with as much, and raises it to the largest that was freed unless it is told"""

_libc = ctypes.CDLL(None)
_mallopt = getattr(_libc, "mallopt", None)  # glibc alone has these
_trim = getattr(_libc, "malloc_trim", None)


def use_system_allocator() -> None:
    """Arrow allocates like everyone else, where the environment does not say how; and all from one arena.

    Before Arrow is imported: its own allocator is chosen then, and `pyarrow.set_memory_pool` reaches a part of it
    alone. And before there are threads: an arena that is made stays.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if _mallopt is not None:
        _mallopt(_M_ARENA_MAX, 1)
        _mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Free pages to the system; a millisecond or two. Does nothing where the C library has no such call."""
    if _trim is not None:
        _trim(0)
