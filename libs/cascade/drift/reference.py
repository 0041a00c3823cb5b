"""A bundle's reference: how each of its model's inputs and its score were distributed when it was trained.

Counts are kept by hour of the day: visitors of the morning are others than those of the evening, on other devices, and
an hour of serving is to be held against the same hour. A visitor counts once an hour, on both sides: the rows of one
visit are alike, and hundreds of rows of a dozen visitors would look like a population of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade.drift.errors import DriftInputError, ReferenceUnreadable
from cascade.features.spec import OOV
from cascade.files import replacing

FILE = "reference.json"
KIND, FORMAT = "drift-reference", 1

HOURS = 24
QUANTILES = 10
"""Bins of a number, each with about as many training rows."""
MOST_VALUES = 10
"""Categories that are told apart, the most frequent ones."""
OTHER, UNKNOWN = "other", "unknown"


@dataclass(frozen=True)
class NumberBins:
    """Bins of a number: below the first edge, from each to the next, from the last on."""

    edges: tuple[float, ...]

    @classmethod
    def fit(cls, values: ArrayLike) -> NumberBins:
        """Quantiles of the values; equal ones are one edge. Raises DriftInputError without a finite value."""
        known = np.asarray(values, np.float64).ravel()
        known = known[np.isfinite(known)]
        if not len(known):
            raise DriftInputError(f"none of {np.size(values)} values is finite; give the training's own")
        edges = np.unique(np.quantile(known, np.arange(1, QUANTILES) / QUANTILES))
        if edges[-1] >= known.max():  # what lies above all that training saw has a bin of its own
            edges = np.append(edges, np.nextafter(known.max(), np.inf))
        return cls(tuple(float(edge) for edge in edges))

    @property
    def names(self) -> list[str]:
        """Of the bins."""
        shown = [f"{edge:.3g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(shown)]
        return [f"below {shown[0]}", *between, f"{shown[-1]} and above"]

    def bin_of(self, values: ArrayLike) -> NDArray[np.int64]:
        """Which bin each is in, the shape of the values; -1 for one that is not finite."""
        given = np.asarray(values, np.float64)
        return np.where(np.isfinite(given), np.searchsorted(np.asarray(self.edges), given, side="right"), -1)


@dataclass(frozen=True)
class CategoryBins:
    """Bins of a category: the given rows of its vocabulary, then all others, then what the vocabulary lacks."""

    rows: tuple[int, ...]
    row_names: tuple[str, ...]

    @classmethod
    def fit(cls, rows: ArrayLike, names: Sequence[str] | None) -> CategoryBins:
        """The most frequent rows. names: of rows 1, 2, …; None: told apart is only whether the vocabulary knows it."""
        if names is None:
            return cls((), ())
        count = np.bincount(np.asarray(rows, np.int64).ravel(), minlength=len(names) + 1)
        count[OOV] = 0
        found = [int(row) for row in np.argsort(-count, kind="stable")[:MOST_VALUES] if count[row]]
        return cls(tuple(found), tuple(names[row - 1] for row in found))

    @property
    def names(self) -> list[str]:
        """Of the bins."""
        return [*self.row_names, OTHER if self.rows else "known", UNKNOWN]

    def bin_of(self, values: ArrayLike) -> NDArray[np.int64]:
        """Which bin each row is in, the shape of the values."""
        given = np.asarray(values, np.int64)
        table = np.full(max(int(given.max(initial=0)), *self.rows, OOV) + 1, len(self.rows), np.int64)
        table[list(self.rows)] = np.arange(len(self.rows))
        table[OOV] = len(self.rows) + 1
        return table[given]


Bins = NumberBins | CategoryBins


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """One feature.

    counts: int64 [24, B], values of each bin by hour of the day (UTC)
    visitors: int64 [24], how many they are of, each once: a visitor's list of five items has five prices
    """

    bins: Bins
    counts: NDArray[np.int64]
    visitors: NDArray[np.int64]

    @classmethod
    def count(cls, bins: Bins, values: ArrayLike, hours: NDArray[np.integer]) -> FeatureReference:
        """values: [N] or [N, W], a visitor each with W values; hours: [N] of the day."""
        counts = np.stack([histogram(bins, np.asarray(values)[hours == hour]) for hour in range(HOURS)])
        return cls(bins, counts, np.bincount(np.asarray(hours, np.int64), minlength=HOURS))


def histogram(bins: Bins, values: ArrayLike) -> NDArray[np.int64]:
    """How many of the values are in each bin, int64 [B]; numbers that are not finite are in none."""
    at = bins.bin_of(values).ravel()
    return np.bincount(at[at >= 0], minlength=len(bins.names))


@dataclass(frozen=True, eq=False)
class Reference:
    """All features of one model, by name."""

    features: Mapping[str, FeatureReference]

    def save(self, folder: Path) -> None:
        """Write reference.json into `folder`."""
        features = {}
        for name, feature in self.features.items():
            bins: dict[str, Any] = (
                {"edges": feature.bins.edges}
                if isinstance(feature.bins, NumberBins)
                else {"rows": feature.bins.rows, "names": feature.bins.row_names}
            )
            features[name] = {**bins, "counts": feature.counts.tolist(), "visitors": feature.visitors.tolist()}
        with replacing(folder / FILE) as beside:
            beside.write_text(json.dumps({"kind": KIND, "format": FORMAT, "features": features}), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Reference | None:
        """What `save` wrote; None where there is none, as in bundles of before there were references.

        Raises ReferenceUnreadable.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            kind, version = content["kind"], content["format"]
            if (kind, version) != (KIND, FORMAT):
                raise ReferenceUnreadable(
                    f"{path} holds {kind!r} of format {version!r}, this release reads {KIND!r} of format {FORMAT}; "
                    "build the bundle again, or update Cascade"
                )
            return cls({name: _feature(one) for name, one in content["features"].items()})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ReferenceUnreadable(f"{path} is no reference ({error!r}); build the bundle again") from error


def _feature(content: Mapping[str, Any]) -> FeatureReference:
    bins: Bins = (
        NumberBins(tuple(content["edges"]))
        if "edges" in content
        else CategoryBins(tuple(content["rows"]), tuple(content["names"]))
    )
    counts, visitors = np.asarray(content["counts"], np.int64), np.asarray(content["visitors"], np.int64)
    if counts.shape != (HOURS, len(bins.names)) or visitors.shape != (HOURS,):
        raise ValueError(f"counts of shape {counts.shape} for {len(bins.names)} bins")
    return FeatureReference(bins, counts, visitors)
