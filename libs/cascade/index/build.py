"""Choosing and building the index for a catalog."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.index.faiss_index import FaissIndex
from cascade.index.interface import CandidateIndex, Floats, checked
from cascade.index.recall import measure_recall

FLAT_COMFORT = 200_000
"""Up to here a flat search of 64 dimensions stays below 2 ms on one thread, at a recall of 1."""


@dataclass(frozen=True)
class IndexChoice:
    """Which index was built, and why."""

    kind: str
    parameters: dict[str, int | float | str]
    recall: float
    """measured against exact search at `recall_k`"""
    recall_k: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON and metadata."""
        return asdict(self)


def build_index(
    vectors: Floats,
    recall_target: float = 0.97,
    *,
    recall_k: int = 300,
    queries: Floats | None = None,
    source: str | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> tuple[CandidateIndex, IndexChoice]:
    """The index for these vectors, and the choice behind it.

    vectors: float32 [N, D]. queries: float32 [B, D], what recall is measured with; the vectors
    themselves, sampled, where absent. source: the candidate tower's fingerprint. Raises IndexInputError on empty
    shapes and NaN.

    The structure is flat at every size so far: exact, and fast enough up to FLAT_COMFORT vectors.
    """
    vectors = checked(vectors, None, "vectors")
    count = len(vectors)
    index = FaissIndex.flat(vectors, threads)
    index.source = source
    if queries is None:
        sample = np.random.default_rng(seed).permutation(count)[:256]
        queries = vectors[sample]
    recall = measure_recall(index, vectors, queries, recall_k)
    speed = (
        f"within the {FLAT_COMFORT:,} that are quick to compare one by one"
        if count <= FLAT_COMFORT
        else f"beyond the {FLAT_COMFORT:,} that are quick to compare one by one, so searches will be slow"
    )
    reason = f"flat: {count:,} vectors, {speed}; recall {recall:.4f} (target {recall_target:.2f})"
    return index, IndexChoice("flat", index.parameters, recall, recall_k, reason)
