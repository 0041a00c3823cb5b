"""How large an index chance alone makes: a small sample lies far from its own population.

Two samples of one population, of n and m, have about PSI ~ (1/n + 1/m) · χ²(B − 1) over B bins (Yurdakul 2018,
"Statistical Properties of Population Stability Index"): ten bins of 80 rows against plenty exceed 0.1 every other time.
So whoever holds an index against a threshold asks for this first.
"""

from __future__ import annotations

from scipy.stats import chi2  # type: ignore[import-untyped]

LEVEL = 0.99


def chance(bins: int, expected_rows: float, actual_rows: float, level: float = LEVEL) -> float:
    """What the index of two samples of one population stays below with probability `level`; infinite without rows.

    bins: those that hold anything; rows: independent ones on either side
    """
    if expected_rows <= 0 or actual_rows <= 0:
        return float("inf")
    return float(chi2.ppf(level, max(bins - 1, 1)) * (1 / expected_rows + 1 / actual_rows))
