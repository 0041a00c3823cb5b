"""Standardising of one number: minus the training mean, over the training deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.features.spec import Floats

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Standardiser:
    """Mean and standard deviation of the known training values. A constant feature has deviation 1."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: Numbers) -> Standardiser:
        """values: float64 [N], NaN where unknown. Without any known value: mean 0, deviation 1."""
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(0.0, 1.0)
        mean = float(known.mean())
        deviation = float(known.std())
        # Rounding alone can leave a constant column a deviation of 1e-16, which would blow noise up to ±1.
        return cls(mean, deviation if deviation > 1e-9 * max(1.0, abs(mean)) else 1.0)

    def fill(self, values: Numbers) -> Numbers:
        """The values with the training mean where unknown (NaN)."""
        return np.where(np.isnan(values), self.mean, values)

    def scale(self, filled: Numbers) -> Floats:
        """Standardised values, float32 [N]; computed in float64, rounded once at the end."""
        return ((filled - self.mean) / self.deviation).astype(np.float32)


def known_between(values: Numbers, low: float, high: float) -> Numbers:
    """The values with NaN wherever they are not in [low, high]; infinities and NaN are in no range."""
    return np.where((values >= low) & (values <= high), values, np.nan)
