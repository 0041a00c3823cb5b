"""What others' scores count for beside the ranker's logit, fitted on clicks that none of them learned from.

The click among a row's candidates is chosen by the softmax of all, each with a factor (conditional logit, McFadden
1974): among candidates, because that is what a ranker orders, and most items that are not would tell nothing. A weight
is the ratio of a factor to the logit's, so that the ranker's logit keeps its scale. Scores come in groups, one after
another; a group is taken where it lowers the loss by more than the standard error of the difference, fitted on one half
of the rows and judged on the other, both ways.

Shapes: R clicks among M candidates each: logits and scores [R, M], the click first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import logsumexp, softmax  # type: ignore[import-untyped]

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

FEWEST_CLICKS = 50
"""with fewer, nothing is fitted"""
MOST = 20.0
"""the largest weight, were logit and score as far spread: a ranker that says next to nothing is not divided by it"""


def stacking_weights(logits: Floats, groups: Sequence[Sequence[Floats]], seed: int) -> list[list[float]]:
    """The weight of each score beside the logits: 0 for a group that adds nothing, and where clicks are too few."""
    nothing = [[0.0] * len(group) for group in groups]
    if len(logits) < FEWEST_CLICKS:
        return nothing
    halves = np.random.default_rng(seed).permutation(len(logits)) % 2
    spread = [max(float(part.std()), 1e-9) for part in (logits, *(one for group in groups for one in group))]
    scaled = iter(part.astype(np.float64) / size for part, size in zip(_flat(logits, groups), spread, strict=True))
    z = next(scaled)
    parts = [[next(scaled) for _ in group] for group in groups]
    taken: list[int] = []
    least = _judged([z], halves)
    for number in range(len(groups)):
        judged = _judged([z, *(part for one in (*taken, number) for part in parts[one])], halves)
        gain = least - judged
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            taken, least = [*taken, number], judged
    by_logit, *factors = _fit([z, *(part for one in taken for part in parts[one])])
    unit = max(by_logit, max(factors, default=1.0) / MOST, 1e-9)
    sizes, found = iter(spread[1:]), iter(factors)
    for number, group in enumerate(groups):
        scale = [spread[0] / next(sizes) for _ in group]
        if number in taken:
            nothing[number] = [float(next(found) / unit * size) for size in scale]
    return nothing


def _flat(logits: Floats, groups: Sequence[Sequence[Floats]]) -> list[Floats]:
    return [logits, *(part for group in groups for part in group)]


def _judged(parts: Sequence[Doubles], halves: NDArray[np.integer]) -> Doubles:
    """The loss of each click [R] by factors fitted on the other half."""
    losses = np.empty(len(halves))
    for half in (0, 1):
        factors = _fit([part[halves == half] for part in parts])
        losses[halves != half] = _losses([part[halves != half] for part in parts], factors)
    return losses


def _fit(parts: Sequence[Doubles]) -> Doubles:
    """The factor of each part, none below 0."""

    def loss(factors: Doubles) -> tuple[float, Doubles]:
        odds = _sum(parts, factors)
        chances = softmax(odds, axis=1)
        gradient = [np.mean((chances * part).sum(axis=1) - part[:, 0]) for part in parts]
        return float(np.mean(logsumexp(odds, axis=1) - odds[:, 0])), np.array(gradient)

    start = np.append(1.0, np.zeros(len(parts) - 1))
    found: Doubles = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(parts)).x
    return found


def _losses(parts: Sequence[Doubles], factors: Doubles) -> Doubles:
    """The loss of each click [R]."""
    odds = _sum(parts, factors)
    losses: Doubles = logsumexp(odds, axis=1) - odds[:, 0]
    return losses


def _sum(parts: Sequence[Doubles], factors: Doubles) -> Doubles:
    total: Doubles = np.sum([factor * part for factor, part in zip(factors, parts, strict=True)], axis=0)
    return total
