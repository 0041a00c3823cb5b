"""What was served against a reference: an index a feature, and whether there was enough to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.drift.chance import chance
from cascade.drift.columns import Column
from cascade.drift.psi import DRIFTED, WATCH, psi
from cascade.drift.reference import HOURS, FeatureReference, Reference, histogram
from cascade.drift.report import Drift, State

LEAST_REFERENCE = 150
"""Visitors of the reference's same hours, below which all its hours stand in for them."""


@dataclass(frozen=True)
class Observed:
    """A feature as it was served. values: [N] or [N, W], a visitor each with W values; hours: int64 [N] of the day."""

    values: Column
    hours: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hours)


def judge(model: str, reference: Reference, observed: Mapping[str, Observed], min_visitors: int) -> list[Drift]:
    """Every feature of the reference; one that was not observed has no visitors.

    A feature is judged where at least `min_visitors` visitors were served with it and chance alone would hardly reach
    the upper threshold; otherwise it has too few, whatever its index.
    """
    return [
        _judged(model, name, feature, observed.get(name), min_visitors) for name, feature in reference.features.items()
    ]


def _judged(model: str, name: str, feature: FeatureReference, served: Observed | None, min_visitors: int) -> Drift:
    bins = tuple(feature.bins.names)
    count = 0 if served is None else len(served)
    actual = np.zeros(len(bins), np.int64) if served is None else histogram(feature.bins, served.values)
    if served is None or not actual.sum():
        return Drift(model, name, "too few", None, None, count, 0.0, False, bins, (), ())
    expected, rows, same_hours = _expected(feature, served.hours)
    if not expected.sum():
        return Drift(model, name, "too few", None, None, count, 0.0, False, bins, (), ())
    index = psi(expected, actual)
    by_chance = chance(int(((expected > 0) | (actual > 0)).sum()), rows, count)
    state: State = "stable"
    if count < min_visitors or by_chance > DRIFTED:
        state = "too few"
    elif index > DRIFTED:
        state = "drifted"
    elif index > max(WATCH, by_chance):
        state = "watch"
    shares = [tuple(float(share) for share in one / one.sum()) for one in (expected, actual)]
    return Drift(model, name, state, index, by_chance, count, round(rows, 1), same_hours, bins, *shares)


def _expected(feature: FeatureReference, hours: NDArray[np.int64]) -> tuple[NDArray[np.float64], float, bool]:
    """Shares in the hours of the day that were served, in their proportion; how many visitors that is worth.

    Of a mixture with weights w over hours of m visitors each, the variance is that of 1 / Σ w²/m.
    """
    weights = np.bincount(hours, minlength=HOURS) / len(hours)
    there = weights > 0
    if (feature.visitors[there] > 0).all() and (feature.counts[there].sum(axis=1) > 0).all():
        rows = float(1 / (weights[there] ** 2 / feature.visitors[there]).sum())
        if rows >= LEAST_REFERENCE:
            counts = feature.counts[there]
            shares = counts / counts.sum(axis=1, keepdims=True)
            return (weights[there, None] * shares).sum(axis=0), rows, True
    whole = feature.counts.sum(axis=0).astype(np.float64)
    return (whole / whole.sum() if whole.sum() else whole), float(feature.visitors.sum()), False
