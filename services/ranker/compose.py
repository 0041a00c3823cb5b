"""A list put together place by place, under rules: alike items kept apart, few of a category, some places explored.

Each place goes to one of the candidates left that are within the limits. Who gets it:

- the best by click probability;
- or, with a temperature, one drawn in proportion to p^(1/T), as `rerank.sample` draws;
- or, with a relevance weight λ, the one of maximal marginal relevance (Carbonell and Goldstein 1998): the largest
  λ·p/p_max − (1 − λ)·max cos(i, j) over the items j placed before. Probabilities are taken over the largest, so that λ
  means the same wherever they lie.

With an exploration share ε each place is tossed for by itself: with chance ε it goes to any of those left, each as
likely. So every candidate within the limits can be shown, and what was shown by chance teaches the next model.

The propensity of an item is the chance it had of its place given those before it, (1 − ε)·(its chance by the rule
above) + ε / (candidates that were left): what a simulation finds, and what off-policy estimates divide by.

Where no candidate is left within the limits and the list is not full, all limits are raised by one, as often as needed:
a list is never shorter for them, and as even as the candidates allow.

Pure: N candidates in the order received, positions among them out. Ties go to the first received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.ranker.rerank import Positions, Propensities, Scores, log_chances

Flags = NDArray[np.bool_]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Limit:
    """At most `most` of each category. categories: int [N], at least 0."""

    categories: NDArray[np.integer]
    most: int


class Rule(Protocol):
    """Who gets the next place, chance of exploration aside."""

    def choose(self, left: Flags) -> int:
        """One of those left, bool [N] with at least one."""
        ...

    def chance(self, position: int, left: Flags) -> float:
        """The chance that the last `choose` had of giving this one, of those left."""
        ...

    def placed(self, position: int) -> None:
        """It has the place, by this rule or by exploration."""
        ...


class Best:
    """The most probable."""

    def __init__(self, probabilities: Scores) -> None:
        self._keys = probabilities.astype(np.float64)
        self._chosen = -1

    def choose(self, left: Flags) -> int:
        """See Rule."""
        self._chosen = int(np.where(left, self._keys, -np.inf).argmax())
        return self._chosen

    def chance(self, position: int, left: Flags) -> float:
        """See Rule."""
        return float(position == self._chosen)

    def placed(self, position: int) -> None:
        """Nothing depends on it."""


class Drawn:
    """One drawn in proportion to p^(1/T) of those left."""

    def __init__(self, probabilities: Scores, temperature: float, rng: np.random.Generator) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature {temperature}: give a number above 0")
        self._log_p = log_chances(probabilities)
        self._temperature = temperature
        self._rng = rng

    def choose(self, left: Flags) -> int:
        """See Rule. Noise is fresh at each place: limits bring candidates back, and old noise would know too much."""
        keys = self._log_p + self._temperature * self._rng.gumbel(size=len(self._log_p))
        return int(np.where(left, keys, -np.inf).argmax())

    def chance(self, position: int, left: Flags) -> float:
        """See Rule."""
        with np.errstate(over="ignore"):  # a tiny temperature: an infinite ratio is a chance of 0
            ratios = np.exp((self._log_p[left] - self._log_p[position]) / self._temperature)
            return float(1.0 / ratios.sum())

    def placed(self, position: int) -> None:
        """Nothing depends on it."""


class MarginalRelevance(Best):
    """The most relevant that is least like what was placed before; the first place goes to the most probable.

    vectors: float32 [N, D] of unit length, or 0 where nothing is known of an item: it is like nothing then
    """

    def __init__(self, probabilities: Scores, vectors: Vectors, relevance_weight: float) -> None:
        if not 0 <= relevance_weight <= 1:
            raise ValueError(f"relevance weight {relevance_weight}: give a number from 0 to 1")
        super().__init__(probabilities)
        self._vectors = vectors
        self._novelty_weight = 1 - relevance_weight
        largest = self._keys.max(initial=0.0)
        self._relevance = relevance_weight * (self._keys / largest if largest > 0 else self._keys)
        self._likeness = np.full(len(vectors), -np.inf, np.float32)  # to the most alike placed before

    def placed(self, position: int) -> None:
        """See Rule."""
        np.maximum(self._likeness, self._vectors @ self._vectors[position], out=self._likeness)
        self._keys = self._relevance - self._novelty_weight * self._likeness


class _Limits:
    """Counts what each category has."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._categories = [limit.categories for limit in limits]
        self._most = np.array([limit.most for limit in limits])
        self._counts = [np.zeros(limit.categories.max(initial=0) + 1, np.int64) for limit in limits]

    def within(self, left: Flags) -> Flags:
        """Those of `left`, not empty, that may be placed: at least one, for which limits may be raised."""
        while True:
            allowed = left.copy()
            for categories, counts, most in zip(self._categories, self._counts, self._most, strict=True):
                allowed &= counts[categories] < most
            if allowed.any():
                return allowed
            self._most += 1

    def placed(self, position: int) -> None:
        for categories, counts in zip(self._categories, self._counts, strict=True):
            counts[categories[position]] += 1


def compose(
    count: int,
    k: int,
    rule: Rule,
    rng: np.random.Generator,
    *,
    limits: Sequence[Limit] = (),
    exploration: float = 0.0,
) -> tuple[Positions, Propensities]:
    """Positions of min(k, count) different candidates in the order to show, and the chance that each had of its place.

    count: candidates, N. exploration: chance of each place to go to any of those left, in [0, 1]
    Raises ValueError on an exploration or a limit out of bounds.
    """
    if not 0 <= exploration <= 1:
        raise ValueError(f"exploration {exploration}: give a share from 0 to 1")
    if any(limit.most < 1 for limit in limits):
        raise ValueError("a limit below 1 leaves no item of any category; give at least 1")
    places = min(k, count)
    kept = _Limits(limits)
    left = np.ones(count, bool)
    chosen, chances = np.empty(places, np.intp), np.empty(places)
    for place in range(places):
        allowed = kept.within(left)
        position = rule.choose(allowed)  # where the place is explored too: the chance of the taken one depends on it
        if exploration > 0 and rng.random() < exploration:  # tossed place by place: a longer list begins with a shorter
            position = int(rng.choice(np.flatnonzero(allowed)))
        chances[place] = (1 - exploration) * rule.chance(position, allowed) + exploration / allowed.sum()
        chosen[place] = position
        left[position] = False
        kept.placed(position)
        rule.placed(position)
    return chosen, chances


def unit_vectors(*parts: Vectors) -> Vectors:
    """Embeddings [N, D] of several kinds side by side, of unit length: a dot product is the mean of the kinds' cosines.

    A kind that an item lacks (a row of zeros) is left out of its length, and counts as unlike in every comparison.
    """
    known, scaled = [], []
    for part in parts:
        length = np.linalg.norm(part, axis=1, keepdims=True)
        known.append(length > 0)
        scaled.append(part / np.where(known[-1], length, 1.0))
    kinds = np.maximum(np.sum(known, axis=0), 1)  # [N, 1]
    vectors: Vectors = (np.concatenate(scaled, axis=1) / np.sqrt(kinds)).astype(np.float32)
    return vectors
