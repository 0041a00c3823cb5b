"""What a search costs, from what it does: so that a choice depends on counted work, and not on who else is at work.

For 64 dimensions and k = 300 on one thread. Fitted to searches over 10,000 to 1,000,000 vectors (mean error 3 to 8 %
for the inverted files, 15 % for graphs) that were timed while the machine was shared, and divided by 1.35, the ratio
to a search known from the idle machine (docs/candidate-index.md); flat is from the idle one itself. Another processor
is faster or slower by about the same factor throughout, and a choice asks only which is less. The bench holds
prediction against time.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascade.index.structures import Work


@dataclass(frozen=True)
class Price:
    """start: microseconds of a search that compares nothing; the others: nanoseconds a comparison."""

    start: float
    compared: float
    centre: float = 0.0
    rescored: float = 0.0


FLAT = "flat"
PRICES = {
    FLAT: Price(20, 8),
    "ivf_flat": Price(50, 15, centre=7),
    "ivf_sq8": Price(60, 12, centre=7),
    "ivf_pq": Price(50, 7, centre=7, rescored=85),
    "hnsw": Price(20, 150),
    "hnsw_sq8": Price(20, 145),
}


def microseconds(structure: str, work: Work, dim: int) -> float:
    """One search of one thread, about."""
    price = PRICES[structure]
    compared = work.centres * price.centre + work.compared * price.compared + work.rescored * price.rescored
    return price.start + compared * dim / 64 / 1000


def flat_microseconds(count: int, dim: int) -> float:
    """The same for comparing all vectors."""
    return microseconds(FLAT, Work(compared=count), dim)
