"""Which structure, and how hard it has to look, for a recall to be reached.

Each structure is built and asked queries whose exact answers are known. Its effort is raised until the recall reaches
the target; the least work that does so, in predicted time (cost.py), wins. The clock is not asked, so the same vectors,
queries and seed choose the same on a busy machine as on an idle one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cascade.index.cost import flat_microseconds, microseconds
from cascade.index.errors import IndexInputError
from cascade.index.faiss_index import FaissIndex
from cascade.index.recall import Truth
from cascade.index.structures import STRUCTURES, Effort, Structure, Stuff

WORTH = 0.5
"""Share of a flat search's time that another structure may take: exactness is not given up for less."""

GRAPH_UP_TO = 100_000
"""Vectors beyond which no graph is built: one thread, so that it is the same every time, takes minutes for a million,
and for k = 300 a graph has not been the quickest at any size (docs/candidate-index.md)."""


@dataclass(frozen=True)
class Trial:
    """What became of one structure. recall: of the least effort that reached the target, or of the most allowed."""

    structure: str
    effort: dict[str, int]
    recall: float
    microseconds: float
    """of a search on one thread, predicted"""
    reached: bool
    too_slow: bool = False
    """its least effort costs more than was allowed"""

    @property
    def verdict(self) -> str:
        """In words."""
        return "reaches it" if self.reached else "too slow" if self.too_slow else "falls short"

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value:,}" for name, value in self.effort.items())
        told = f"{self.structure} ({settings}): recall {self.recall:.4f}, about {self.microseconds / 1000:.2f} ms"
        return told if self.reached else f"{told}, {self.verdict}"


def candidates(count: int) -> tuple[str, ...]:
    """The structures worth building for so many vectors, in the order in which equals win."""
    inverted = ("ivf_sq8", "ivf_pq", "ivf_flat")
    return (*inverted, "hnsw_sq8", "hnsw") if count <= GRAPH_UP_TO else inverted


def choose(
    stuff: Stuff, truth: Truth, target: float, structures: Sequence[str]
) -> tuple[FaissIndex | None, list[Trial]]:
    """The index that reaches the target with least work, and what became of all; None where none does.

    target: to be reached by the mean recall less two standard errors, so that other queries of the same kind will
    find it reached, too. Raises IndexInputError on an unknown structure.
    """
    unknown = sorted(set(structures) - set(STRUCTURES))
    if unknown:
        raise IndexInputError(f"no such structure: {', '.join(unknown)}; there are {', '.join(STRUCTURES)}, and flat")
    best: FaissIndex | None = None
    least = WORTH * flat_microseconds(len(stuff.vectors), stuff.vectors.shape[1])
    trials = []
    for name in structures:
        structure = STRUCTURES[name]
        index = structure.build(stuff)
        trial = tune(index, structure, truth, target, least)
        trials.append(trial)
        if trial.reached and (best is None or trial.microseconds < least):
            best, least = index, trial.microseconds
    return best, trials


def tune(index: FaissIndex, structure: Structure, truth: Truth, target: float, limit: float) -> Trial:
    """Set the least effort that reaches the target within so many microseconds, or the most that keeps to them."""

    def tried(effort: Effort) -> Trial:
        index.set_effort(effort)
        shares = truth.recall(index)
        error = float(shares.std()) / math.sqrt(len(shares))
        work = structure.work(index, truth.queries, truth.k)
        recall = float(shares.mean())
        cost = microseconds(structure.name, work, index.dim)
        return Trial(structure.name, dict(effort), recall, cost, recall - 2 * error >= target)

    def affordable(effort: Effort) -> bool:
        index.set_effort(effort)
        return microseconds(structure.name, structure.work(index, truth.queries, truth.k), index.dim) <= limit

    outcomes = []
    for ladder in structure.efforts(index, truth.k):
        within = bisect_left(ladder, True, key=lambda effort: not affordable(effort))
        last = tried(ladder[max(0, within - 1)])
        if within == 0 or not last.reached:
            outcomes.append(replace(last, reached=False, too_slow=within == 0))
            continue
        first = bisect_left(ladder, True, hi=within - 1, key=lambda effort: tried(effort).reached)
        outcomes.append(tried(ladder[first]))
    best = min(outcomes, key=lambda trial: (not trial.reached, trial.microseconds if trial.reached else -trial.recall))
    index.set_effort(best.effort)
    return best
