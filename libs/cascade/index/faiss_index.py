"""Search by FAISS, whatever the structure inside (structures.py builds those that are not flat)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.files import replacing
from cascade.index.errors import IndexFileError
from cascade.index.interface import CandidateIndex, Floats, Positions, checked
from cascade.index.library import faiss_library, omp_threads

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

    @property
    def faiss(self) -> Any:
        """The FAISS object itself."""
        return self._index

    @classmethod
    def flat(cls, vectors: Floats, threads: int | None = None) -> FaissIndex:
        """All vectors, compared one by one: exact."""
        array = checked(vectors, None, "vectors")
        index = faiss_library().IndexFlatIP(array.shape[1])
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

    def set_effort(self, effort: Mapping[str, int]) -> None:
        """How thorough a search is, by FAISS's own names (`nprobe`, `efSearch`, `k_factor_rf`); saved with the index.

        Not while another thread searches: it belongs to the build.
        """
        space = faiss_library().ParameterSpace()
        for name, value in effort.items():
            space.set_index_parameter(self._index, name, value)
        self._parameters |= effort

    def _search(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        with omp_threads(self.threads):
            scores, positions = self._index.search(queries, k)
        return self._padded(scores, positions)

    @staticmethod
    def _padded(scores: Floats, positions: NDArray[np.int64]) -> tuple[Floats, Positions]:
        """FAISS's answer, -inf where it has none: k beyond the catalog, or lists with fewer than k between them."""
        missing = positions < 0
        if missing.any():
            scores[missing] = -np.inf
        return scores, positions.astype(np.int32)

    def _reconstruct(self, position: int) -> Floats:
        vector: Floats = self._index.reconstruct(position)
        return vector

    def _write(self, folder: Path) -> None:
        with replacing(folder / INDEX_FILE) as beside:
            faiss_library().write_index(self._index, str(beside))

    @classmethod
    def read(cls, folder: Path, threads: int | None) -> FaissIndex:
        """The index written to `folder`."""
        path = folder / INDEX_FILE
        if not path.is_file():
            raise IndexFileError(f"{path} is missing; build the index again")
        try:
            return cls(faiss_library().read_index(str(path)), threads)
        except RuntimeError as error:
            raise IndexFileError(f"{path} is damaged ({error}); build the index again") from error
