"""What the towers' score counts for beside the ranker's logit, fitted on clicks that neither learned from.

The click among a row's candidates is chosen by the softmax of both, each with a factor (conditional logit, McFadden
1974): among candidates, because that is what a ranker orders, and most items that are not would tell nothing. The
weight is the ratio of the factors, so that the ranker's logit keeps its scale. It is taken where it lowers the loss by
more than the standard error of the difference, fitted on one half of the rows and judged on the other, both ways.

Shapes: R clicks among M candidates each: logits and scores [R, M], the click first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import logsumexp, softmax  # type: ignore[import-untyped]

from cascade.training.calibration import FEWEST_CLICKS

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

MOST = 20.0
"""the largest weight: a ranker that says next to nothing is not divided by it"""


def stacking_weight(logits: Floats, scores: Floats, seed: int) -> float:
    """The weight of the scores beside the logits, 0 where they add nothing or there are too few clicks."""
    if len(logits) < FEWEST_CLICKS:
        return 0.0
    z, s = logits.astype(np.float64), scores.astype(np.float64)
    halves = np.random.default_rng(seed).permutation(len(z)) % 2
    gain = np.empty(len(z))
    for half in (0, 1):
        fitted, judged = halves == half, halves != half
        alone, both = _fit(z[fitted], s[fitted], scores_count=False), _fit(z[fitted], s[fitted], scores_count=True)
        gain[judged] = _losses(z[judged], s[judged], alone) - _losses(z[judged], s[judged], both)
    if gain.mean() <= gain.std() / np.sqrt(len(gain)):
        return 0.0
    by_logit, by_score = _fit(z, s, scores_count=True)
    return float(np.clip(by_score / max(by_logit, 1e-6), 0.0, MOST))


def _fit(z: Doubles, s: Doubles, *, scores_count: bool) -> Doubles:
    """The factors of logit and score."""

    def loss(factors: Doubles) -> tuple[float, Doubles]:
        odds = factors[0] * z + factors[1] * s
        chances = softmax(odds, axis=1)
        gradient = [np.mean((chances * part).sum(axis=1) - part[:, 0]) for part in (z, s)]
        return float(np.mean(logsumexp(odds, axis=1) - odds[:, 0])), np.array(gradient)

    bounds = [(0.0, None), (0.0, None if scores_count else 0.0)]
    found: Doubles = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return found


def _losses(z: Doubles, s: Doubles, factors: Doubles) -> Doubles:
    """The loss of each click [R]."""
    odds = factors[0] * z + factors[1] * s
    losses: Doubles = logsumexp(odds, axis=1) - odds[:, 0]
    return losses
