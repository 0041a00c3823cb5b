"""FAISS itself: imported on first use, and its threads.

A process that never searches does not load it. It may share its OpenMP with torch, where setting one's threads sets
the other's; so the number of threads is an argument of an index, set around each search in the thread that searches
(OpenMP keeps it per thread) and put back after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cascade.index.errors import IndexBackendError


def faiss_library() -> Any:
    """The module. Raises IndexBackendError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise IndexBackendError("FAISS is not installed; install the extra `retrieval` or `gpu`") from error
    return faiss


@contextmanager
def omp_threads(count: int | None) -> Iterator[None]:
    """Work with this many threads (None: FAISS's own choice), and leave OpenMP as it was: torch may share it."""
    if count is None:
        yield
        return
    faiss = faiss_library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
