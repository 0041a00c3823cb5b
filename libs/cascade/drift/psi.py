"""The population stability index: how far one histogram lies from another.

    PSI(e, a) = Σ over bins b of (a_b − e_b) · ln(a_b / e_b)

with e and a the shares of the bins. It is the sum of both Kullback–Leibler divergences, Jeffreys' divergence: zero for
equal shares alone, never negative, the same in both directions. Credit scoring made it a habit, with its thresholds:
below 0.1 stable, to 0.25 worth watching, above it another population (Lewis 1994, "An Introduction to Credit Scoring";
Siddiqi 2006, "Credit Risk Scorecards").

The thresholds say nothing of chance: chance.py does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cascade.drift.errors import DriftInputError

WATCH, DRIFTED = 0.1, 0.25
"""The customary thresholds: from the first on worth watching, beyond the second another population."""

SMOOTHING = 1e-4
"""Added to every share, which then sum to 1 again: a bin that one side never met counts as one in ten thousand, and not
as infinitely unlikely. The same on both sides, so that equal shares stay equal."""


def psi(expected: ArrayLike, actual: ArrayLike) -> float:
    """The index between two histograms of the same bins.

    expected, actual: [B], counts or shares, each of any total above 0. Raises DriftInputError on histograms of other
    lengths, without bins, negative, not finite or empty.
    """
    e, a = _shares(expected, "expected"), _shares(actual, "actual")
    if len(e) != len(a):
        raise DriftInputError(f"expected has {len(e)} bins and actual {len(a)}; count both into the same bins")
    return float(np.maximum((a - e) * np.log(a / e), 0.0).sum())  # each term is non-negative but for rounding


def _shares(counts: ArrayLike, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.asarray(counts, np.float64)
    if values.ndim != 1 or not len(values):
        raise DriftInputError(f"{name} has the shape {values.shape}; give one number a bin")
    if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise DriftInputError(f"{name} is {values.tolist()[:20]}; give counts that are not negative and not all zero")
    smoothed = values / values.sum() + SMOOTHING
    shares: np.ndarray[tuple[int], np.dtype[np.float64]] = smoothed / smoothed.sum()
    return shares
