"""What every candidate index offers, and the checks they share.

Shapes: N vectors in the index, D dimensions, B queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.index.errors import IndexInputError

Floats = NDArray[np.float32]
Positions = NDArray[np.int32]

NO_POSITION = -1
"""Fills a result's row where the index holds fewer than k vectors; its score is -inf. The caller drops it."""


class CandidateIndex(ABC):
    """Vectors by position, searched by inner product."""

    kind: str
    """names the implementation in a saved index"""
    source: str | None = None
    """fingerprint of the candidate tower the vectors came from, kept with the saved index"""

    @property
    @abstractmethod
    def count(self) -> int:
        """N."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """D."""

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """What the index was built with, for reports and the saved index."""
        return {}

    def search(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        """The k vectors of largest inner product with each query, best first.

        queries: float32 [B, D]. Returns scores float32 [B, k] and positions int32 [B, k], padded with
        -inf and -1 where k exceeds N. Raises IndexInputError on another dimension, on NaN, and on k below 1.
        """
        if k < 1:
            raise IndexInputError(f"k is {k}; ask for at least 1 candidate")
        return self._search(checked(queries, self.dim, "queries"), k)

    def reconstruct(self, position: int) -> Floats:
        """The vector [D] at a position, as far as the index kept it. Raises IndexInputError outside it."""
        if not 0 <= position < self.count:
            raise IndexInputError(f"position {position} is outside an index of {self.count} vectors")
        return self._reconstruct(position)

    def save(self, folder: Path) -> None:
        """Write the index into `folder`; `load_index` reads it back."""
        from cascade.index.files import write_header

        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder)
        write_header(folder, self)

    @staticmethod
    def load(folder: Path, threads: int | None = None) -> CandidateIndex:
        """The index saved in `folder`, of whichever kind. See `load_index`."""
        from cascade.index.files import load_index

        return load_index(folder, threads)

    @abstractmethod
    def _search(self, queries: Floats, k: int) -> tuple[Floats, Positions]: ...

    @abstractmethod
    def _reconstruct(self, position: int) -> Floats: ...

    @abstractmethod
    def _write(self, folder: Path) -> None: ...

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, threads: int | None) -> CandidateIndex:
        """The vectors written by `_write`; header and checks are load_index's."""


def checked(vectors: NDArray[Any], dim: int | None, name: str) -> Floats:
    """The vectors as contiguous float32 [*, dim]. Raises IndexInputError naming what is wrong."""
    if vectors.ndim != 2 or vectors.shape[1] == 0 or (dim is not None and vectors.shape[1] != dim):
        expected = "at least 1 dimension" if dim is None else f"{dim} dimensions"
        raise IndexInputError(f"{name} have shape {vectors.shape}; give one row per vector, of {expected}")
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    # One sum finds any NaN or infinity without a mask of the whole array.
    if not np.isfinite(array.sum(dtype=np.float64)):
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise IndexInputError(
            f"{name} hold NaN or infinity in {len(rows)} rows, the first is row {rows[:1].tolist()}; "
            "the model that made them has diverged"
        )
    return array
