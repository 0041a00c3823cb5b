"""Answers to curves: recall against k, what probabilities are worth, and whom the lists show.

Shapes: R rows, K candidates, I items, N negatives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cascade.training import metrics
from cascade.training.answers import Answer
from cascade.training.report import Curves, Exposure, RecallCurve, Reliability

KS = (1, 5, 10, 20, 50, 100, 200, 300)
LIST = 10
"""How long a list is shown: whom it exposes."""
POINTS = 60
"""Of the exposure curve, at most."""


def curves_of(answers: Mapping[str, Answer], item: NDArray[np.integer], met: NDArray[np.floating]) -> Curves:
    """The curves of every model.

    item: int [R], the one right item of each row; met: float [I], how often training met each item
    """
    return Curves(
        tuple(recall_curve(name, answer, item) for name, answer in answers.items()),
        tuple(reliability(name, answer) for name, answer in answers.items() if answer.calibrated),
        exposure(answers, met),
    )


def recall_curve(model: str, answer: Answer, item: NDArray[np.integer]) -> RecallCurve:
    """Recall within each of KS that the model's lists reach."""
    hits = metrics.hits_of(answer.ranked, item)
    ks = [k for k in KS if k <= hits.shape[1]]
    return RecallCurve(model, ks, [float(metrics.recall_at_k(hits, k).mean()) for k in ks])


def reliability(model: str, answer: Answer) -> Reliability:
    """The bins that `metrics.calibration_error` sums over; column 0 of the scores is the click."""
    labels = np.zeros(answer.scores.shape)
    labels[:, 0] = 1.0
    flat, values = labels.ravel(), answer.scores.ravel().astype(np.float64)
    bins = metrics.calibration_bins(values)
    count = np.bincount(bins)
    predicted, observed = (np.bincount(bins, of) / count for of in (values, flat))
    return Reliability(model, predicted.tolist(), observed.tolist(), count.tolist())


def exposure(answers: Mapping[str, Answer], met: NDArray[np.floating]) -> Exposure:
    """Shares of the most met items, at numbers of items that grow by about the same factor."""
    count = len(met)
    at = np.unique(np.geomspace(1, count, min(POINTS, count)).round().astype(np.int64))
    order = np.argsort(-met, kind="stable")

    def shares(of: NDArray[np.floating]) -> list[float]:
        total = of.sum()
        found: list[float] = (np.cumsum(of[order])[at - 1] / (total if total > 0 else 1.0)).tolist()
        return found

    shown = {
        name: np.bincount(top[top >= 0], minlength=count).astype(np.float64)
        for name, top in ((name, answer.ranked[:, :LIST].ravel()) for name, answer in answers.items())
    }
    return Exposure(at.tolist(), shares(met.astype(np.float64)), {name: shares(of) for name, of in shown.items()})
