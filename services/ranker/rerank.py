"""Which of the scored candidates are shown, and in which order. Pure: scores in, positions out.

Weighted sampling without replacement after Efraimidis and Spirakis (2006): item i gets the key u_i^(1/w_i) with u_i
uniform, and the k largest keys win. The order of −log(−log u^(1/w)) is the same and equals log w + Gumbel noise, so
nothing is exponentiated and nothing overflows or vanishes.

The chance that a draw had (its propensity, by which logged clicks are later weighted) follows Plackett and Luce: at
each position the item's weight over the sum of the weights of those not drawn before.

The weights are softmax(log p / T), that is w_i ∝ p_i^(1/T) for click probabilities p: at T = 1 an item's chance of the
first place is proportional to its click probability; T → 0 gives the plain top k and T → ∞ a uniform draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]
Positions = NDArray[np.intp]
Propensities = NDArray[np.float64]

_WORTH_PARTITIONING = 500
_SHARE_TO_PARTITION = 4
"""Fewer scores than this, or than so many times k, are sorted as a whole sooner."""

_SMALLEST = np.finfo(np.float64).tiny


def top_k(scores: Scores, k: int) -> Positions:
    """Positions of the k largest scores, best first; equal ones in the order received; NaN last."""
    keys = -scores
    if len(keys) > max(_WORTH_PARTITIONING, _SHARE_TO_PARTITION * k) and k > 0:
        bound = np.partition(keys, k - 1)[k - 1]  # the k-th best
        candidates = np.flatnonzero(keys <= bound)  # in the order received, all that tie with the k-th among them
        if len(candidates) >= k:  # fewer where the bound is NaN
            best: Positions = candidates[np.argsort(keys[candidates], kind="stable")[:k]]
            return best
    return np.argsort(keys, kind="stable")[:k]


def sample(probabilities: Scores, k: int, temperature: float, rng: np.random.Generator) -> Positions:
    """Positions of k items drawn without replacement, first drawn first.

    probabilities: [N] of a click, in [0, 1]; one of 0 counts as the smallest positive number
    temperature: above 0
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}: give a number above 0")
    log_p = log_chances(probabilities)
    # The keys log p / T + Gumbel, times T: the same order, and no division that a tiny T would overflow.
    keys = log_p + temperature * rng.gumbel(size=len(log_p))
    return top_k(keys, k)


def propensities(probabilities: Scores, drawn: Positions, temperature: float) -> Propensities:
    """Chance of each draw given those before it, in (0, 1] where `sample` made them; the last of all items has 1.

    probabilities: [N] as given to `sample`
    drawn: [K] positions, first drawn first
    """
    log_p = log_chances(probabilities)
    with np.errstate(over="ignore", invalid="ignore"):
        log_w = log_p / temperature
        never = log_w.copy()
        never[drawn] = -np.inf
        # What was left at each draw: the items never drawn, and those drawn from this one on, added up from the end.
        left = np.logaddexp.accumulate(np.append(np.logaddexp.reduce(never), log_w[drawn][::-1]))[:0:-1]  # [K]
        chances: Propensities = np.exp(log_w[drawn] - left)
    # A temperature so small that log p / T overflows: only the ratios of two weights are numbers then.
    return chances if np.isfinite(chances).all() else _by_ratios(log_p, drawn, temperature)


def _by_ratios(log_p: NDArray[np.float64], drawn: Positions, temperature: float) -> Propensities:
    """`propensities` from the ratio of every weight to every drawn one, in K·N steps."""
    place = np.full(len(log_p), len(drawn))  # [N]: when each was drawn; len(drawn) for never
    place[drawn] = np.arange(len(drawn))
    with np.errstate(over="ignore"):  # an infinite ratio is a chance of 0
        # Weights relative to the drawn item's: only differences of logs are exponentiated, whatever the temperature.
        ratios = np.exp((log_p[None, :] - log_p[drawn][:, None]) / temperature)  # [K, N]
        ratios[place[None, :] < np.arange(len(drawn))[:, None]] = 0.0
        chances: Propensities = 1.0 / ratios.sum(axis=1)
    return chances


def log_chances(probabilities: Scores) -> NDArray[np.float64]:
    """log p, finite: 0 counts as the smallest positive number."""
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    return logs
