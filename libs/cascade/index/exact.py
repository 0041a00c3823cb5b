"""Exact search in plain NumPy: the truth the others are measured against, and a fallback without FAISS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cascade.files import replacing
from cascade.index.errors import IndexFileError
from cascade.index.interface import NO_POSITION, CandidateIndex, Floats, Positions, checked

VECTORS_FILE = "vectors.npy"


class ExactIndex(CandidateIndex):
    """All inner products, then the k largest; equal scores in order of position."""

    kind = "exact"

    def __init__(self, vectors: Floats) -> None:
        self._vectors = checked(vectors, None, "vectors")

    @property
    def count(self) -> int:
        """N."""
        return len(self._vectors)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._vectors.shape[1])

    def _search(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        scores = queries @ self._vectors.T  # [B, N]
        found = min(k, self.count)
        positions = np.full((len(queries), k), NO_POSITION, np.int32)
        best = np.full((len(queries), k), -np.inf, np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :found]
        positions[:, :found] = order
        best[:, :found] = np.take_along_axis(scores, order, axis=1)
        return best, positions

    def _reconstruct(self, position: int) -> Floats:
        vector: Floats = self._vectors[position].copy()
        return vector

    def _write(self, folder: Path) -> None:
        with replacing(folder / VECTORS_FILE) as beside, beside.open("wb") as file:
            np.save(file, self._vectors, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path, threads: int | None) -> ExactIndex:
        """The index written to `folder`; NumPy's own settings choose the threads."""
        path = folder / VECTORS_FILE
        try:
            return cls(np.load(path, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise IndexFileError(f"{path} is missing or damaged ({error}); build the index again") from error
