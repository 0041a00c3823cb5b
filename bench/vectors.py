"""Vectors with the structure of a trained two-tower model's, for catalogs that no built-in shop reaches.

What makes a search hard or easy is where its queries lie. Isolated clusters with queries inside them are easy: one
list of an inverted file holds the whole answer. Noise of 64 equal dimensions is hard beyond anything that a model
learns. These lie between, a little harder than the built-in shop's trained towers (both in docs/candidate-index.md):

- three levels of categories, each centre its parent's plus a smaller step, sizes by a power law, so that lists of an
  inverted file differ in length as they do in a shop;
- families of items that overlap: an item lies about as far from its family's centre as families lie from each other;
- a spectrum that falls exponentially, so that 64 dimensions have the spread of about 18 equal ones;
- users between their interests: a random mixture of one to three families drawn by their size, a step of their own,
  and a direction that all users share, as trained query towers have one. No query is an item's vector plus a little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

DIM = 64
DEPARTMENTS, TYPES = 20, 12
ITEMS_A_FAMILY = 150
DECAY = 24.0
"""Dimensions after which the spectrum has fallen to 1/e of its amplitude."""
STEPS = (1.0, 0.8, 0.7, 0.7)
"""Of a department from the origin, a type from its department, a family from its type, an item from its family."""
USER_STEP, USERS_SHARE = 0.8, 0.8


@dataclass(frozen=True)
class Made:
    """Unit vectors. items: float32 [N, 64], in random order; queries: float32 [B, 64]."""

    items: Floats
    queries: Floats


def make(items: int, queries: int, seed: int = 0) -> Made:
    """A catalog and users who ask for it. Same arguments, same vectors."""
    rng = np.random.default_rng(seed)
    scale = np.exp(-np.arange(DIM) / DECAY).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0].astype(np.float32)
    axes = scale[:, None] * turn  # [64, 64]: a step of the spectrum, turned so that no axis is special

    def steps(count: int) -> Floats:
        made: Floats = rng.standard_normal((count, DIM), dtype=np.float32) @ axes
        return made

    departments = STEPS[0] * steps(DEPARTMENTS)
    types = np.repeat(departments, TYPES, axis=0) + STEPS[1] * steps(DEPARTMENTS * TYPES)
    families = max(len(types), items // ITEMS_A_FAMILY)
    parent = rng.choice(len(types), families, p=_power_law(len(types), 0.8, rng))
    centres = types[parent] + STEPS[2] * steps(families)
    size = _power_law(families, 0.7, rng)
    family = rng.choice(families, items, p=size)
    held = _unit(centres[family] + STEPS[3] * steps(items))

    interests = rng.choice(families, (queries, 3), p=size)
    weight = rng.dirichlet((1.0, 0.6, 0.3), queries).astype(np.float32)
    shared = steps(1)
    mixed = np.einsum("qi,qid->qd", weight, centres[interests])
    asked = _unit(mixed + USER_STEP * steps(queries) + USERS_SHARE * shared)
    return Made(held, asked)


def describe(made: Made, sample: int = 500, k: int = 300) -> dict[str, float]:
    """What tells how hard the search is: spread over dimensions, and similarity of a query to its answer.

    local dimension: of the k nearest to a query, by maximum likelihood (Levina and Bickel, 2004).
    """
    items, queries = made.items, made.queries[:sample]
    k = min(k, len(items) - 1)
    centred = items[:50_000] - items[:50_000].mean(axis=0)
    variance = np.linalg.eigvalsh(centred.T @ centred)
    variance = variance / variance.sum()
    best = np.empty((len(queries), k + 1), np.float32)
    for row, query in enumerate(queries):
        scores = items @ query
        best[row] = np.sort(np.partition(scores, len(scores) - k - 1)[-k - 1 :])[::-1]
    distance = np.sqrt(np.maximum(2 - 2 * best, 1e-9))
    local = -1 / np.log(distance[:, :k] / distance[:, k:]).mean(axis=1)
    return {
        "equal dimensions of the items' spread": float(1 / (variance**2).sum()),
        "local dimension around a query": float(np.median(local)),
        "similarity of the best": float(np.median(best[:, 0])),
        f"similarity of the {k}th": float(np.median(best[:, k - 1])),
    }


def _power_law(count: int, exponent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Probabilities falling with rank, in random order."""
    weight = rng.permutation(np.arange(1, count + 1) ** -exponent)
    return weight / weight.sum()


def _unit(vectors: Floats) -> Floats:
    made: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made
