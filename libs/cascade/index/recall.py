"""How much of the exact answer an index finds."""

from __future__ import annotations

import numpy as np

from cascade.index.exact import ExactIndex
from cascade.index.interface import NO_POSITION, CandidateIndex, Floats


def measure_recall(index: CandidateIndex, vectors: Floats, queries: Floats, k: int, batch: int = 256) -> float:
    """The share of the exact k nearest of each query that `index` returns among its k, averaged.

    vectors: float32 [N, D], what the index was built from; queries: float32 [B, D].
    """
    exact = ExactIndex(vectors)
    k = min(k, exact.count)
    hits = 0
    for start in range(0, len(queries), batch):
        part = queries[start : start + batch]
        wanted = exact.search(part, k)[1]
        found = index.search(part, k)[1]
        hits += sum(
            len(np.intersect1d(want, got[got != NO_POSITION], assume_unique=True))
            for want, got in zip(wanted, found, strict=True)
        )
    return hits / (len(queries) * k) if len(queries) else 1.0
