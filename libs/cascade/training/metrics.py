"""Ranking and calibration metrics in NumPy, each defined in its docstring.

Shapes: R rows (questions), K ranks, M scored examples. A `hits` array is bool [R, K]: whether the item at that
rank is relevant, best rank first; ranks a list does not fill are False.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.training.errors import MetricInputError

Doubles = NDArray[np.float64]
Hits = NDArray[np.bool_]


def hits_of(ranked: NDArray[np.integer], relevant: NDArray[np.integer]) -> Hits:
    """Ranked items int [R, K] against one relevant item each, int [R] → hits [R, K]. Negative items never hit."""
    if ranked.ndim != 2 or relevant.shape != (len(ranked),):
        raise MetricInputError(f"ranked has shape {ranked.shape} and relevant {relevant.shape}; give [R, K] and [R]")
    hits: Hits = (ranked == relevant[:, None]) & (ranked >= 0)
    return hits


def recall_at_k(hits: Hits, k: int, relevant: NDArray[np.integer] | None = None) -> Doubles:
    """Each row's share of its relevant items within the first k, float64 [R].

    relevant: how many each row has, int [R]; one where absent. A row without any counts 0.
    """
    found = _top(hits, k).sum(axis=1)
    return np.asarray(found / _counts(hits, relevant), np.float64)


def hit_rate_at_k(hits: Hits, k: int) -> Doubles:
    """1 for each row with any relevant item within the first k, float64 [R]."""
    return np.asarray(_top(hits, k).any(axis=1), np.float64)


def ndcg_at_k(hits: Hits, k: int, relevant: NDArray[np.integer] | None = None) -> Doubles:
    """Discounted gain 1 / log2(rank + 1) of the first k over that of an ideal order, float64 [R].

    relevant: how many each row has, int [R]; one where absent. A row without any counts 0.
    """
    top = _top(hits, k)
    discounts = 1.0 / np.log2(np.arange(2, top.shape[1] + 2))
    gain = top @ discounts
    ideal_by_count = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
    ideal = ideal_by_count[np.minimum(_counts(hits, relevant), k).astype(np.int64)]
    return np.asarray(gain / ideal, np.float64)


def reciprocal_rank(hits: Hits, k: int | None = None) -> Doubles:
    """1 over the rank of the first relevant item, 0 without one within k (None: at all), float64 [R]."""
    top = _top(hits, hits.shape[1] if k is None else k)
    return np.asarray(np.where(top.any(axis=1), 1.0 / (top.argmax(axis=1) + 1.0), 0.0), np.float64)


def auc(labels: NDArray[Any], scores: NDArray[np.floating]) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann-Whitney).

    Raises MetricInputError where one of the two classes is absent.
    """
    labels, scores = _scored(labels, scores)
    return WeightedAuc(labels, scores)(np.ones(len(labels)))


class WeightedAuc:
    """`auc` of the same examples with other weights, as a bootstrap asks for it: sorted once."""

    def __init__(self, labels: NDArray[Any], scores: NDArray[np.floating]) -> None:
        labels, scores = _scored(labels, scores)
        positives = int(labels.sum())
        if positives in (0, len(labels)):
            raise MetricInputError(
                f"AUC needs both classes; there are {positives} positives, {len(labels) - positives} negatives"
            )
        self._labels = labels
        self._values, self._place = np.unique(scores, return_inverse=True)

    def __call__(self, weights: Doubles) -> float:
        """The AUC with each example counted so often, float64 [M]; NaN where a class has no weight."""
        count = len(self._values)
        above = np.bincount(self._place, weights * self._labels, minlength=count)
        below = np.bincount(self._place, weights * ~self._labels, minlength=count)
        pairs = float(above.sum() * below.sum())
        won = float((above * (np.cumsum(below) - below / 2)).sum())  # ties count half
        return won / pairs if pairs > 0 else float("nan")


def log_loss(labels: NDArray[Any], probabilities: NDArray[np.floating]) -> float:
    """The mean negative log-likelihood of labels 0 and 1; certainties count as 1e-7 short of certain."""
    return float(log_losses(labels, probabilities).mean())


def log_losses(labels: NDArray[Any], probabilities: NDArray[np.floating]) -> Doubles:
    """`log_loss` of each example, float64 [M]."""
    labels, probabilities = _probabilities(labels, probabilities)
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return np.asarray(-np.where(labels, np.log(p), np.log1p(-p)), np.float64)


def calibration_error(labels: NDArray[Any], probabilities: NDArray[np.floating], bins: int = 15) -> float:
    """Expected calibration error: over bins of equal size in order of probability, the mean distance between
    predicted and observed share, weighted by size."""
    labels, probabilities = _probabilities(labels, probabilities)
    place = calibration_bins(probabilities, bins)
    return float(np.abs(np.bincount(place, labels - probabilities)).sum() / len(place))


def calibration_bins(probabilities: NDArray[np.floating], bins: int = 15) -> NDArray[np.int64]:
    """The bin of each example, int [M]: of equal size, in order of probability."""
    if bins < 1:
        raise MetricInputError(f"{bins} bins; take at least 1")
    order = np.argsort(probabilities, kind="stable")
    place = np.empty(len(order), np.int64)
    for number, part in enumerate(np.array_split(order, min(bins, len(order)))):
        place[part] = number
    return place


def coverage(ranked: NDArray[np.integer], items: int) -> float:
    """The share of a catalog of `items` that stands in any of the lists [R, K]; negative entries are no item."""
    return float(len(np.unique(ranked[ranked >= 0])) / items)


def gini(ranked: NDArray[np.integer], items: int) -> float:
    """How unequally the lists [R, K] expose a catalog of `items`: 0 where each stands as often, towards 1 where one
    item has all places (Gini 1912; items that are never shown count)."""
    counts = np.sort(np.bincount(ranked[ranked >= 0].ravel(), minlength=items)).astype(np.float64)
    if counts.sum() == 0:
        raise MetricInputError("the lists are empty; nothing is exposed")
    places = np.arange(1, items + 1)
    return float((2 * (places * counts).sum() / counts.sum() - (items + 1)) / items)


def novelty(ranked: NDArray[np.integer], shares: Doubles) -> Doubles:
    """Each list's mean surprise −log2 p of its items, float64 [R] (Vargas and Castells 2011).

    ranked: [R, K]; shares: float64 [I], the share of users who met each item; an item that nobody met counts as if
    half a user had met it, so give shares of at least that
    A list without items has 0.
    """
    filled = ranked >= 0
    surprise = np.where(filled, -np.log2(shares[np.maximum(ranked, 0)]), 0.0)
    return np.asarray(surprise.sum(axis=1) / np.maximum(filled.sum(axis=1), 1), np.float64)


def intra_list_diversity(ranked: NDArray[np.integer], vectors: NDArray[np.floating]) -> Doubles:
    """Each list's mean of 1 − cosine over all pairs of its items, float64 [R] (Ziegler et al. 2005).

    ranked: [R, K]; vectors: [I, D], an item of zeros is at a right angle to all
    A list of fewer than two items has 0.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)  # [I, D]
    filled = ranked >= 0
    chosen = unit[np.maximum(ranked, 0)] * filled[:, :, None]  # [R, K, D]
    # The sum over all ordered pairs is |sum|² less what each item has with itself.
    total = (chosen.sum(axis=1) ** 2).sum(axis=1) - (chosen**2).sum(axis=(1, 2))
    count = filled.sum(axis=1)
    pairs = count * (count - 1)
    return np.asarray(np.where(pairs > 0, 1.0 - total / np.maximum(pairs, 1), 0.0), np.float64)


def _top(hits: Hits, k: int) -> Hits:
    if k < 1:
        raise MetricInputError(f"k is {k}; take at least 1")
    if hits.ndim != 2:
        raise MetricInputError(f"hits has shape {hits.shape}; give [rows, ranks]")
    return hits[:, :k]


def _counts(hits: Hits, relevant: NDArray[np.integer] | None) -> Doubles:
    """Relevant items of each row, at least 1 so that a row without any divides to 0."""
    if relevant is None:
        return np.ones(len(hits))
    if relevant.shape != (len(hits),) or (relevant < 0).any():
        raise MetricInputError(f"relevant has shape {relevant.shape}; give one count of at least 0 for each row")
    return np.asarray(np.maximum(relevant, 1), np.float64)


def _scored(labels: NDArray[Any], scores: NDArray[np.floating]) -> tuple[NDArray[np.bool_], Doubles]:
    if labels.shape != scores.shape or labels.ndim != 1 or len(labels) == 0:
        raise MetricInputError(f"labels have shape {labels.shape} and scores {scores.shape}; give [M] each, M > 0")
    if not np.isfinite(scores).all():
        raise MetricInputError(f"{int((~np.isfinite(scores)).sum())} scores are NaN or infinite")
    if not np.isin(labels, (0, 1)).all():
        raise MetricInputError("labels hold values beside 0 and 1")
    return labels.astype(bool), scores.astype(np.float64)


def _probabilities(labels: NDArray[Any], probabilities: NDArray[np.floating]) -> tuple[NDArray[np.bool_], Doubles]:
    flags, values = _scored(labels, probabilities)
    if values.min() < 0 or values.max() > 1:
        raise MetricInputError(f"probabilities range from {values.min()} to {values.max()}; give 0 to 1")
    return flags, values
