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
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        raise MetricInputError(f"AUC needs both classes; there are {positives} positives, {negatives} negatives")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[place]  # ranks from 1, ties sharing their mean
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(labels: NDArray[Any], probabilities: NDArray[np.floating]) -> float:
    """The mean negative log-likelihood of labels 0 and 1; certainties count as 1e-7 short of certain."""
    labels, probabilities = _probabilities(labels, probabilities)
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels, np.log(p), np.log1p(-p))))


def calibration_error(labels: NDArray[Any], probabilities: NDArray[np.floating], bins: int = 15) -> float:
    """Expected calibration error: over bins of equal size in order of probability, the mean distance between
    predicted and observed share, weighted by size."""
    labels, probabilities = _probabilities(labels, probabilities)
    if bins < 1:
        raise MetricInputError(f"{bins} bins; take at least 1")
    order = np.argsort(probabilities, kind="stable")
    error = 0.0
    for part in np.array_split(order, min(bins, len(order))):
        error += abs(float(labels[part].mean()) - float(probabilities[part].mean())) * len(part)
    return error / len(order)


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
