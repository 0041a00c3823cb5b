"""Confidence intervals by resampling users: a user's rows are no independent witnesses of each other.

The percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over clusters: U users are drawn with replacement, each
with all of its rows, and the metric is computed anew. All metrics and models of a run are computed from the same draws,
so the interval of a difference between two models is a paired one.

Shapes: R rows, U users, B draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.training.errors import MetricInputError

Doubles = NDArray[np.float64]

REPLICATES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Between these lie the middle `level` of the draws."""

    low: float
    high: float


class Bootstrap:
    """Draws of users, made once and used for every mean of a run.

    weights: float32 [B, U], how often each draw holds each user
    """

    def __init__(self, users: NDArray[np.integer], replicates: int = REPLICATES, seed: int = 0) -> None:
        """users: int [R], the user of each row, any numbers."""
        if replicates < 2 or not len(users):
            raise MetricInputError(f"{replicates} draws of {len(users)} rows; take at least 2 draws of a row")
        _, self.user = np.unique(users, return_inverse=True)  # [R]
        count = int(self.user.max()) + 1
        drawn = np.random.default_rng(seed).integers(0, count, (replicates, count))
        places = (drawn + np.arange(replicates)[:, None] * count).ravel()
        self.weights = np.bincount(places, minlength=replicates * count).reshape(replicates, count).astype(np.float32)

    def sums(self, values: Doubles) -> Doubles:
        """The sum of each draw, float64 [B]; values: [R] of each row, NaN for rows that do not count."""
        known = ~np.isnan(values)
        by_user = np.bincount(self.user[known], values[known], minlength=self.weights.shape[1])
        return (self.weights @ by_user.astype(np.float32)).astype(np.float64)

    def means(self, values: Doubles) -> Doubles:
        """The mean over each draw's rows, float64 [B]; NaN where a draw holds none that counts."""
        counts = self.sums(np.where(np.isnan(values), np.nan, 1.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.sums(values) / counts, np.float64)

    def row_weights(self, draw: int) -> Doubles:
        """How often a draw holds each row, float64 [R]."""
        return np.asarray(self.weights[draw, self.user], np.float64)


def interval(draws: Doubles, level: float = LEVEL) -> Interval | None:
    """The middle `level` of the draws [B], those that are no number left out; None where none is one."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
