"""Where negatives come from. Every sampler draws from a generator it is given, and holds no state.

Shapes: B rows of a batch, N candidates, K negatives of each row, I items in the catalog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.training.errors import TrainingInputError

Positions = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def item_frequency(item_positions: NDArray[np.integer], items: int) -> Doubles:
    """Each item's share of the training rows, float64 [I], summing to 1: the chance that a batch row holds it."""
    if len(item_positions) == 0:
        raise TrainingInputError("there are no training rows to count items in; train on at least one day")
    counts = np.bincount(item_positions, minlength=items)
    if len(counts) > items:
        raise TrainingInputError(f"rows name item {len(counts) - 1} of a table with {items}; use the same item table")
    shares: Doubles = counts / counts.sum()
    return shares


@dataclass(frozen=True)
class Candidates:
    """The columns of a sampled softmax.

    items: int64 [N], target: int64 [B], the column of each row's positive, log_q: float32 [N]
    repeated: whether the same item may stand in several columns
    """

    items: Positions
    target: Positions
    log_q: Floats
    repeated: bool


class CandidateSampler(Protocol):
    """Chooses the columns against which a batch's positives compete."""

    def __call__(self, positives: Positions, frequency: Doubles) -> Candidates:
        """int64 [B], float64 [I] → the candidates."""
        ...


def in_batch_rows(positives: Positions, frequency: Doubles) -> Candidates:
    """Every row's item is a column, as often as the batch holds it; q is the item's frequency (Yi et al. 2019)."""
    log_q = np.log(frequency[positives]).astype(np.float32)
    return Candidates(positives, np.arange(len(positives)), log_q, repeated=True)


def in_batch_items(positives: Positions, frequency: Doubles) -> Candidates:
    """Every item of the batch is a column once; q is the chance that a batch of B rows holds it at all.

    The same estimate from fewer columns: in a small catalog most of a large batch's columns are repeats.
    """
    items, target = np.unique(positives, return_inverse=True)
    # log(1 - (1 - p)^B), by way of log1p and expm1 so that rare items keep their digits
    log_q = np.log(-np.expm1(len(positives) * np.log1p(-np.minimum(frequency[items], 1 - 1e-12))))
    return Candidates(items, target, log_q.astype(np.float32), repeated=False)


@dataclass(frozen=True)
class Negatives:
    """Items a user did not click.

    items: int64 [B, K]; usable: bool [B, K], False where only the positive itself was found
    """

    items: Positions
    usable: NDArray[np.bool_]


@dataclass(frozen=True)
class Squares:
    """A batch as S squares of M clicks and N items: every click of a square meets every item of it.

    clicks: int64 [S, M], places in the batch; items: int64 [S, N]
    labels: bool [S, M, N], whether the item is the click's own
    usable: bool [S, M, N], False where the pair says nothing: a click's item met again as another's, or a filler
    """

    clicks: Positions
    items: Positions
    labels: NDArray[np.bool_]
    usable: NDArray[np.bool_]


class NegativeSampler(Protocol):
    """Puts a batch's positives against K negatives each."""

    def squares(self, positives: Positions, count: int, items: int, rng: np.random.Generator) -> Squares:
        """int64 [B], K, I → every positive once, with K negatives or a little fewer."""
        ...

    def log_lift(self, frequency: Doubles, count: int) -> Floats:
        """log(chance of being drawn × I) of each item as one of K negatives, float32 [I]: 0 where all are as likely."""
        ...


class InBatchNegatives:
    """Other rows' items, so drawn by popularity: clicks in groups of 1 + K by chance, each other's negatives.

    Each click's item is a negative K times, and what is computed of an item or a user serves a whole group; drawn for
    each click apart, K negatives would be K times the items to gather. A group that holds an item twice has fewer
    negatives for its clicks.
    """

    def squares(self, positives: Positions, count: int, items: int, rng: np.random.Generator) -> Squares:
        """int64 [B], K, I → ceil(B / (1 + K)) squares, as many clicks as items each."""
        return _groups(rng.permutation(len(positives)), positives, count)

    def log_lift(self, frequency: Doubles, count: int) -> Floats:
        """float64 [I] → float32 [I], between -5 and 5.

        The bound keeps a single click on a rare item from outweighing the rest of its batch.
        """
        lift = np.log(np.maximum(frequency * len(frequency), 1e-12))
        return np.clip(lift, -5.0, 5.0).astype(np.float32)


class AlikeNegatives:
    """Other rows' items of the same kind: as in-batch, in groups of clicks on items of one kind.

    Among items of all kinds hardly a pair is of one, and what tells such items apart is learned from few.
    kinds: int [I]
    """

    def __init__(self, kinds: NDArray[np.integer]) -> None:
        self._kinds = kinds

    def squares(self, positives: Positions, count: int, items: int, rng: np.random.Generator) -> Squares:
        """int64 [B], K, I → ceil(B / (1 + K)) squares; pairs of two kinds, where one ends, say nothing."""
        order = rng.permutation(len(positives))
        order = order[np.argsort(self._kinds[positives[order]], kind="stable")]
        found = _groups(order, positives, count)
        kinds = self._kinds[found.items]
        return replace(found, usable=found.usable & (kinds[:, :, None] == kinds[:, None, :]))

    def log_lift(self, frequency: Doubles, count: int) -> Floats:
        """Within a kind as in-batch, but for a number that all its items share, which a softmax does not see."""
        return InBatchNegatives().log_lift(frequency, count)


class MixedNegatives:
    """Other rows' items and items drawn from the whole catalog by smoothed popularity, so that items which few click
    are met as negatives too (mixed negative sampling, Yang et al. 2020).

    Clicks in groups as in-batch, with as many columns of drawn items beside their own; every click of a group meets
    the same ones. power: of the popularity they are drawn by: 0 uniform, 1 as clicks are
    """

    def __init__(self, frequency: Doubles, drawn: int = 1, power: float = 0.5) -> None:
        if drawn < 1:
            raise TrainingInputError(f"{drawn} drawn negatives were asked for; take at least 1, or in_batch alone")
        weight = np.where(frequency > 0, frequency, 1.0 / max(len(frequency), 1) / 10) ** power
        self._chance: Doubles = weight / weight.sum()
        self._upto = np.cumsum(self._chance)
        self._drawn = drawn
        self._in_batch = InBatchNegatives()

    def squares(self, positives: Positions, count: int, items: int, rng: np.random.Generator) -> Squares:
        """int64 [B], K, I → squares of 1 + K − D clicks and D items more."""
        others = count - self._drawn
        if others < 1:
            raise TrainingInputError(
                f"{self._drawn} of {count} negatives are to be drawn; leave at least 1 for the batch, or take uniform"
            )
        own = self._in_batch.squares(positives, others, items, rng)
        number, side = own.clicks.shape
        drawn = np.searchsorted(self._upto, rng.random((number, self._drawn)), side="right")
        drawn = np.minimum(drawn, len(self._upto) - 1).astype(np.int64)  # rounding may leave the last below 1
        chosen = positives[own.clicks]
        labels = np.zeros((number, side, side + self._drawn), bool)
        labels[:, :, :side] = own.labels
        usable = np.empty_like(labels)
        usable[:, :, :side] = own.usable
        usable[:, :, side:] = chosen[:, :, None] != drawn[:, None, :]
        usable.reshape(number * side, -1)[len(positives) :] = False  # fillers
        return Squares(own.clicks, np.concatenate([own.items, drawn], axis=1), labels, usable)

    def log_lift(self, frequency: Doubles, count: int) -> Floats:
        """Of the mixture that a click meets, float64 [I] → float32 [I], between -5 and 5."""
        share = self._drawn / count
        met = (1 - share) * frequency + share * self._chance
        return np.clip(np.log(np.maximum(met * len(met), 1e-12)), -5.0, 5.0).astype(np.float32)


class UniformNegatives:
    """Any item of the catalog, each as likely, never the row's own positive."""

    def squares(self, positives: Positions, count: int, items: int, rng: np.random.Generator) -> Squares:
        """int64 [B], K, I → a square a click, with 1 + K items, its own the first."""
        drawn = self.draw(positives, count, items, rng)
        labels = np.zeros((len(positives), 1, 1 + count), bool)
        labels[:, :, 0] = True
        usable = np.concatenate([np.ones((len(positives), 1), bool), drawn.usable], axis=1)[:, None]
        together = np.concatenate([positives[:, None], drawn.items], axis=1)
        return Squares(np.arange(len(positives))[:, None], together, labels, usable)

    def draw(self, positives: Positions, count: int, items: int, rng: np.random.Generator) -> Negatives:
        """int64 [B], K, I → the negatives."""
        return _apart_from(positives, count, lambda size: rng.integers(0, items, size))

    def log_lift(self, frequency: Doubles, count: int) -> Floats:
        """float64 [I] → zeros [I]."""
        return np.zeros(len(frequency), np.float32)


_REDRAWS = 16


def _apart_from(positives: Positions, count: int, draw: Callable[[int], Positions]) -> Negatives:
    """[B, count] draws, those equal to the row's positive drawn again a few times."""
    _require_some(count)
    items = draw(len(positives) * count).reshape(len(positives), count)
    for _ in range(_REDRAWS):
        clash = items == positives[:, None]
        if not clash.any():
            break
        items[clash] = draw(int(clash.sum()))
    return Negatives(items, items != positives[:, None])


def _groups(order: NDArray[np.int64], positives: Positions, count: int) -> Squares:
    """Clicks, taken in this order, in groups of 1 + K that are each other's negatives.

    The last group is filled up with the first clicks, as negatives alone.
    """
    _require_some(count)
    side, batch = 1 + count, len(order)
    number = -(-batch // side)
    clicks = np.resize(order, number * side).reshape(number, side)
    chosen = positives[clicks]  # [S, N]
    labels = np.broadcast_to(np.eye(side, dtype=bool), (number, side, side))
    usable = (chosen[:, :, None] != chosen[:, None, :]) | labels
    usable.reshape(-1, side)[batch:] = False
    return Squares(clicks, chosen, labels, usable)


def _require_some(count: int) -> None:
    if count < 1:
        raise TrainingInputError(f"{count} negatives for each click were asked for; take at least 1")


def drop_ids(categorical: NDArray[np.int32], share: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """A copy in which this share of rows lost their id (column 0), so that the other features stand alone."""
    dropped = categorical.copy()
    if share > 0:
        dropped[rng.random(len(dropped)) < share, 0] = 0
    return dropped
