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

_SMALLEST = np.finfo(np.float64).tiny


def top_k(scores: Scores, k: int) -> Positions:
    """Positions of the k largest scores, best first; equal ones in the order received."""
    return np.argsort(-scores, kind="stable")[:k]


def sample(probabilities: Scores, k: int, temperature: float, rng: np.random.Generator) -> Positions:
    """Positions of k items drawn without replacement, first drawn first.

    probabilities: [N] of a click, in [0, 1]; one of 0 counts as the smallest positive number
    temperature: above 0
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}: give a number above 0")
    log_p = _log(probabilities)
    # The keys log p / T + Gumbel, times T: the same order, and no division that a tiny T would overflow.
    keys = log_p + temperature * rng.gumbel(size=len(log_p))
    return top_k(keys, k)


def propensities(probabilities: Scores, drawn: Positions, temperature: float) -> Propensities:
    """Chance of each draw given those before it, in (0, 1] where `sample` made them; the last of all items has 1.

    probabilities: [N] as given to `sample`
    drawn: [K] positions, first drawn first
    """
    log_p = _log(probabilities)
    place = np.full(len(log_p), len(drawn))  # [N]: when each was drawn; len(drawn) for never
    place[drawn] = np.arange(len(drawn))
    with np.errstate(over="ignore"):  # an infinite ratio is a chance of 0
        # Weights relative to the drawn item's: only differences of logs are exponentiated, whatever the temperature.
        ratios = np.exp((log_p[None, :] - log_p[drawn][:, None]) / temperature)  # [K, N]
        ratios[place[None, :] < np.arange(len(drawn))[:, None]] = 0.0
        chances: Propensities = 1.0 / ratios.sum(axis=1)
    return chances


def _log(probabilities: Scores) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    return logs
