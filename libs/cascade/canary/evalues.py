"""Is the canary worse? A test that may be looked at as often as one likes.

Every signal is a share of *bad* outcomes: calls that failed, lists made without the stage, calls slower than a bound,
lists that nobody clicked. The null hypothesis is a half plane, "the canary is bad at most `slope` times as often as
stable, plus `margin`". Between two looks the outcomes make a block, and a block has an e-value: a number that is 0 or
more and whose mean is at most 1 while the null hypothesis holds. Their product over the looks is a test martingale, so
the chance that it *ever* reaches 1/α is at most α (Ville 1939), however often one looks and whenever one stops.

The e-value of a block is a likelihood ratio: an alternative, fixed before the block was seen, over the point of the
null hypothesis next to it in Kullback-Leibler divergence (Turner, Ly, Grünwald 2024, "Generic E-variables for exact
sequential k-sample tests"; Turner and Grünwald 2023 for bounds on a difference). Why its mean is at most 1, exactly and
for blocks of any size: let the shares be (s, c), the alternative (s₁, c₁), its neighbour (s₀, c₀). The mean is
f(s)ⁿ·g(c)ᵐ with f(s) = 1 + (s − s₀)(s₁ − s₀)/(s₀(1 − s₀)) and g alike. Its logarithm is concave in (s, c), 0 at the
neighbour, and its slope there falls into the whole half plane, since the neighbour is the nearest point.

Several alternatives are bet on at once and their products averaged, which keeps the mean: some fixed distances beyond
the null, for harm of every size, and one that learns from the blocks before. Stable's share is learned likewise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_EXCESSES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.8)
"""How far beyond the null hypothesis the fixed alternatives lie, as a share of the way to 1."""
_STRATEGIES = len(_EXCESSES) + 1
_LEAST_SHARE = 1e-9
_HALVINGS = 40
_WILSON_Z = 3.09


@dataclass(frozen=True)
class Null:
    """bad share of the canary ≤ slope · bad share of stable + margin. slope 0: a fixed bound."""

    slope: float
    margin: float

    def bound(self, stable: float) -> float:
        """The largest share that the canary may have."""
        return self.slope * stable + self.margin


@dataclass(frozen=True)
class Counts:
    """Outcomes of both tracks, and how many of them were bad."""

    stable: float = 0.0
    stable_bad: float = 0.0
    canary: float = 0.0
    canary_bad: float = 0.0

    def __post_init__(self) -> None:
        for track, bad, all_ in (
            ("stable", self.stable_bad, self.stable),
            ("canary", self.canary_bad, self.canary),
        ):
            if not 0 <= bad <= all_:
                raise ValueError(f"{bad:g} bad outcomes of {all_:g} on {track}: give 0 ≤ bad ≤ all")

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.stable + other.stable,
            self.stable_bad + other.stable_bad,
            self.canary + other.canary,
            self.canary_bad + other.canary_bad,
        )

    @property
    def stable_share(self) -> float | None:
        """Share of stable's outcomes that were bad; None where there were none."""
        return self.stable_bad / self.stable if self.stable else None

    @property
    def canary_share(self) -> float | None:
        """Likewise of the canary's."""
        return self.canary_bad / self.canary if self.canary else None


NOTHING = Counts()


@dataclass(frozen=True)
class SequentialTest:
    """A test between two looks. `seen` gives the test after one more block.

    total: all blocks so far
    log_wealth: natural logarithm of each strategy's product of e-values
    peak: the largest logarithm that their mean ever had; never falls, as a test that has rejected stays so
    """

    null: Null
    total: Counts = NOTHING
    log_wealth: tuple[float, ...] = (0.0,) * _STRATEGIES
    peak: float = 0.0

    @property
    def log_evidence(self) -> float:
        """Logarithm of the mean over the strategies: the evidence now."""
        return _log_mean_exp(self.log_wealth)

    def rejects(self, false_alarms: float) -> bool:
        """Whether the canary has been found worse; wrong with at most this chance over all looks together."""
        return self.peak >= -math.log(false_alarms)

    def seen(self, block: Counts) -> SequentialTest:
        """After a block of outcomes that none of the looks before has counted."""
        learned = replace(self, total=self.total + block)
        alternatives = self._alternatives()
        if not alternatives or not block.canary:
            return learned
        log_wealth = tuple(
            wealth + log_e_value(block, self.null, *alternative)
            for wealth, alternative in zip(self.log_wealth, alternatives, strict=True)
        )
        return replace(learned, log_wealth=log_wealth, peak=max(self.peak, _log_mean_exp(log_wealth)))

    def _alternatives(self) -> list[tuple[float, float]]:
        """Shares of stable and canary to bet on next, from what the blocks before tell; none before the first."""
        if self.null.slope and not self.total.stable:
            return []
        stable = _smoothed(self.total.stable_bad, self.total.stable)
        bound = self.null.bound(stable)
        beyond = [bound + (1 - bound) * excess for excess in _EXCESSES]
        return [(stable, share) for share in (*beyond, _smoothed(self.total.canary_bad, self.total.canary))]


def log_e_value(block: Counts, null: Null, stable: float, canary: float) -> float:
    """Logarithm of a block's e-value for the alternative (stable, canary); 0 where that lies in the null hypothesis.

    Raises ValueError for shares that are not between 0 and 1.
    """
    for share in (stable, canary):
        if not 0 < share < 1:
            raise ValueError(f"a share of {share:g} cannot be bet on: give one between 0 and 1")
    if not block.canary or canary <= null.bound(stable) or (null.slope and not block.stable):
        return 0.0
    near_stable, near_canary = _nearest(block.stable, block.canary, null, stable, canary)
    return _log_ratio(block.stable_bad, block.stable, stable, near_stable) + _log_ratio(
        block.canary_bad, block.canary, canary, near_canary
    )


def _nearest(stable_count: float, canary_count: float, null: Null, stable: float, canary: float) -> tuple[float, float]:
    """The point of the null hypothesis with the least divergence from the alternative, weighed by the block's sizes.

    It lies on the edge of the half plane, between where stable's share is the alternative's and where the canary's is.
    """
    if not null.slope:
        return stable, _inside(null.margin)
    low, high = stable, min((canary - null.margin) / null.slope, 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        edge = null.bound(middle)
        pull = stable_count * (middle - stable) / (middle * (1 - middle))
        pull += null.slope * canary_count * (edge - canary) / (edge * (1 - edge))
        low, high = (middle, high) if pull < 0 else (low, middle)
    return low, null.bound(low)


def _log_ratio(bad: float, count: float, alternative: float, null: float) -> float:
    return bad * math.log(alternative / null) + (count - bad) * math.log((1 - alternative) / (1 - null))


def upper_share(bad: float, count: float) -> float:
    """The largest share that so many bad outcomes leave likely (Wilson's bound at one in a thousand); 1 without any."""
    if not count:
        return 1.0
    share, scale = bad / count, _WILSON_Z**2 / count
    spread = _WILSON_Z * math.sqrt(share * (1 - share) / count + scale / (4 * count))
    return min((share + scale / 2 + spread) / (1 + scale), 1.0)


def _smoothed(bad: float, count: float) -> float:
    """A share that is never 0 nor 1, so that no outcome is ruled out."""
    return (bad + 0.5) / (count + 1) if count else _inside(0.0)


def _inside(share: float) -> float:
    return min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)


def _log_mean_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values) / len(values))
