"""The one way to an index of a catalog: chosen, built, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.index.choose import WORTH, Trial, candidates, choose
from cascade.index.cost import FLAT, flat_microseconds
from cascade.index.faiss_index import FaissIndex
from cascade.index.interface import CandidateIndex, Floats, checked
from cascade.index.recall import Truth
from cascade.index.structures import Stuff

FLAT_UP_TO = 20_000
"""Vectors up to which flat is taken without asking: a search of 64 dimensions takes less than 0.2 ms on one thread, of
which another structure would save half; it is exact, and there is nothing to train or to tune
(docs/candidate-index.md)."""

QUERIES = 512
"""That recall is measured with, at most."""


@dataclass(frozen=True)
class IndexChoice:
    """Which index was built, and why."""

    kind: str
    parameters: dict[str, int | float | str]
    recall: float
    """measured against exact search at `recall_k`"""
    recall_k: int
    reason: str
    tried: tuple[Trial, ...] = ()
    """what was built besides flat; empty where flat was taken without asking"""

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
    structures: Sequence[str] | None = None,
    flat_up_to: int = FLAT_UP_TO,
) -> tuple[CandidateIndex, IndexChoice]:
    """The index for these vectors, and the choice behind it. The same arguments give the same index.

    vectors: float32 [N, D]. queries: float32 [B, D], of the kind that will be asked, what recall is measured with (a
    seeded sample of QUERIES of them); the vectors themselves where absent, which are easier to find than what users
    ask. source: the candidate tower's fingerprint. threads: of the build and of each search. structures: those to
    try (structures.py); the catalog's size decides where absent. flat_up_to: vectors up to which none is tried.
    Raises IndexInputError on empty shapes and NaN.
    """
    vectors = checked(vectors, None, "vectors")
    asked = vectors if queries is None or len(queries) == 0 else checked(queries, vectors.shape[1], "queries")
    if len(asked) > QUERIES:
        asked = asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[:QUERIES])]
    truth = Truth.of(vectors, asked, recall_k)
    index: FaissIndex | None = None
    trials: list[Trial] = []
    if len(vectors) > flat_up_to:
        wanted = candidates(len(vectors)) if structures is None else structures
        index, trials = choose(Stuff(vectors, seed, threads), truth, recall_target, wanted)
    kind = FLAT if index is None else str(index.parameters["structure"])
    index = index or FaissIndex.flat(vectors, threads)
    index.source = source
    recall = float(truth.recall(index).mean()) if len(asked) else 1.0
    reason = _reason(kind, index, recall, recall_target, trials, flat_up_to)
    return index, IndexChoice(kind, index.parameters, recall, recall_k, reason, tuple(trials))


def _reason(
    kind: str, index: FaissIndex, recall: float, target: float, trials: Sequence[Trial], flat_up_to: int
) -> str:
    flat = flat_microseconds(index.count, index.dim) / 1000
    found = f"{kind}: {index.count:,} vectors, recall {recall:.4f} (target {target:.2f})"
    if not trials:
        return f"{found}; exact, about {flat:.2f} ms, within the {flat_up_to:,} that are quick to compare one by one"
    if kind == FLAT:
        others = "; ".join(map(str, trials))
        return f"{found}; exact, about {flat:.2f} ms, since nothing reaches the target in {WORTH:.0%} of it: {others}"
    chosen = next(trial for trial in trials if trial.structure == kind)
    others = "; ".join(str(trial) for trial in trials if trial is not chosen)
    return f"{found}; {chosen}, flat about {flat:.2f} ms" + (f"; not better in that time: {others}" if others else "")
