"""How much of the exact answer an index finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.index.interface import CandidateIndex, Floats, Positions

_TOGETHER = 32
"""Queries compared with all vectors at once: 128 MB of scores for a million."""
_SAME = 1e-6
"""Scores closer than this, for vectors of length 1, are the same: sums in another order differ by less."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact answers to some queries, asked again and again while an index is tuned.

    queries: float32 [B, D]; worst: float32 [B], the score of the k-th nearest, less what rounding may take from it
    """

    vectors: Floats
    queries: Floats
    k: int
    worst: Floats

    @classmethod
    def of(cls, vectors: Floats, queries: Floats, k: int) -> Truth:
        """By comparing every query with every vector. k beyond N means all of them."""
        k = min(k, len(vectors))
        worst = np.empty(len(queries), np.float32)
        longest = float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max(initial=0.0)))
        for start in range(0, len(queries), _TOGETHER):
            part = queries[start : start + _TOGETHER]
            scores = part @ vectors.T  # [b, N]
            scores.partition(len(vectors) - k, axis=1)
            slack = _SAME * longest * np.linalg.norm(part, axis=1)
            worst[start : start + _TOGETHER] = scores[:, len(vectors) - k] - slack
        return cls(vectors, queries, k, worst)

    def found(self, positions: Positions) -> NDArray[np.float64]:
        """Share [B] of the k nearest among each query's answers [B, k], -1 for none.

        What ties with the k-th nearest is as good as it: equal items may come in any order.
        """
        shares = np.empty(len(self.queries))
        for row, (query, given) in enumerate(zip(self.queries, positions, strict=True)):
            known = given[given >= 0]
            shares[row] = min(self.k, int((self.vectors[known] @ query >= self.worst[row]).sum())) / self.k
        return shares

    def recall(self, index: CandidateIndex) -> NDArray[np.float64]:
        """Recall [B] of each query's search."""
        return self.found(index.search(self.queries, self.k)[1])


def measure_recall(index: CandidateIndex, vectors: Floats, queries: Floats, k: int) -> float:
    """The share of the exact k nearest of each query that `index` returns among its k, averaged.

    vectors: float32 [N, D], what the index was built from; queries: float32 [B, D].
    """
    return float(Truth.of(vectors, queries, k).recall(index).mean()) if len(queries) else 1.0
