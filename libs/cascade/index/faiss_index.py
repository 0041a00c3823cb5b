"""Search by FAISS.

FAISS is imported on first use, so that a process that never searches does not load it. It may share its OpenMP
with torch, where setting one's threads sets the other's; so the number of threads is an argument of the index,
set around each search in the thread that searches (OpenMP keeps it per thread) and put back after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cascade.files import replacing
from cascade.index.errors import IndexBackendError, IndexFileError
from cascade.index.interface import CandidateIndex, Floats, Positions, checked

INDEX_FILE = "index.faiss"


class FaissIndex(CandidateIndex):
    """A FAISS index of the inner-product metric, whichever structure it has inside."""

    kind = "faiss"

    def __init__(
        self, index: Any, threads: int | None = None, parameters: dict[str, int | float | str] | None = None
    ) -> None:
        self._index = index
        self.threads = threads
        """of each search; None leaves FAISS's own choice"""
        self._parameters = parameters or {}

    @classmethod
    def flat(cls, vectors: Floats, threads: int | None = None) -> FaissIndex:
        """All vectors, compared one by one: exact."""
        array = checked(vectors, None, "vectors")
        index = _faiss().IndexFlatIP(array.shape[1])
        index.add(array)
        return cls(index, threads, {"structure": "flat"})

    @property
    def count(self) -> int:
        """N."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._index.d)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The structure inside and what it was built with."""
        return dict(self._parameters)

    def describe(self, parameters: dict[str, int | float | str]) -> None:
        """Give a loaded index the parameters its header kept."""
        self._parameters = dict(parameters)

    def _search(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        with _threads(self.threads):
            scores, positions = self._index.search(queries, k)
        if k > self.count:
            scores[positions < 0] = -np.inf
        return scores, positions.astype(np.int32)

    def _reconstruct(self, position: int) -> Floats:
        vector: Floats = self._index.reconstruct(position)
        return vector

    def _write(self, folder: Path) -> None:
        with replacing(folder / INDEX_FILE) as beside:
            _faiss().write_index(self._index, str(beside))

    @classmethod
    def read(cls, folder: Path, threads: int | None) -> FaissIndex:
        """The index written to `folder`."""
        path = folder / INDEX_FILE
        if not path.is_file():
            raise IndexFileError(f"{path} is missing; build the index again")
        try:
            return cls(_faiss().read_index(str(path)), threads)
        except RuntimeError as error:
            raise IndexFileError(f"{path} is damaged ({error}); build the index again") from error


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Search with this many threads, and leave OpenMP as it was: torch may share it."""
    if count is None:
        yield
        return
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise IndexBackendError("FAISS is not installed; install the extra `retrieval` or `gpu`") from error
    return faiss
