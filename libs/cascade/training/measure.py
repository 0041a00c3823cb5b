"""Answers to numbers: every metric of every model on every slice, its interval, and the lead over the baselines.

Shapes: R rows, K candidates, I items, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.training import metrics
from cascade.training.answers import CASCADE, NEGATIVES, ORACLE, TWO_TOWER, Answer
from cascade.training.bootstrap import Bootstrap, interval
from cascade.training.contestants import ALL_BASELINES
from cascade.training.report import Comparison, EvaluationRow

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

LIST = 10
"""How long a list is shown: what coverage, Gini, novelty and diversity look at."""
COMPARED = ("recall@10", "ndcg@10")
AUC_DRAWS = 200
"""Draws of AUC's interval, which sorts anew for each."""
LEAST_USERS = 10
"""Below this many users a bootstrap says little, and no interval is given."""


@dataclass(frozen=True)
class Ground:
    """What all models are measured against.

    item, user: int [R], the one right item and a number for the user of each row
    shares: float64 [I], the share of users who met an item in training
    vectors: float [I, D], what items look like and say; D is 0 where that is not known
    oracle: int [R, 10] the oracle's best; None without one
    """

    item: NDArray[np.integer]
    user: NDArray[np.integer]
    shares: Doubles
    vectors: NDArray[np.floating]
    oracle: NDArray[np.integer] | None = None

    def take(self, rows: NDArray[np.integer]) -> Ground:
        """Some of the rows."""
        best = None if self.oracle is None else self.oracle[rows]
        return Ground(self.item[rows], self.user[rows], self.shares, self.vectors, best)


@dataclass(frozen=True)
class Measured:
    """One model's numbers row by row, float64 [R] each, and what its scores say of the row's item and negatives."""

    by_row: Mapping[str, Doubles]
    answer: Answer


def measure(answer: Answer, ground: Ground) -> Measured:
    """All metrics that are means over rows."""
    hits = metrics.hits_of(answer.ranked, ground.item)
    top = answer.ranked[:, :LIST]
    by_row = {f"recall@{k}": metrics.recall_at_k(hits, k) for k in (10, 100, 300)}
    by_row["ndcg@10"] = metrics.ndcg_at_k(hits, 10)
    by_row["mrr"] = metrics.reciprocal_rank(hits)
    if ground.oracle is not None:
        among = (answer.ranked[:, :, None] == ground.oracle[:, None, :]) & (ground.oracle >= 0)[:, None, :]
        by_row["oracle_top10"] = among.any(axis=1).sum(axis=1) / np.maximum((ground.oracle >= 0).sum(axis=1), 1)
    by_row["novelty@10"] = metrics.novelty(top, ground.shares)
    if ground.vectors.shape[1]:
        by_row["diversity@10"] = metrics.intra_list_diversity(top, ground.vectors)
    return Measured(by_row, answer)


def report_slice(
    name: str, measured: Mapping[str, Measured], ground: Ground, chosen: Mask, replicates: int, seed: int
) -> tuple[list[EvaluationRow], list[Comparison]]:
    """Every model on the chosen rows [R], and the models' leads over the best baseline.

    replicates: bootstrap draws; 0 for no intervals
    """
    users = np.unique(ground.user[chosen])
    draws = Bootstrap(ground.user[chosen], replicates, seed) if replicates and len(users) >= LEAST_USERS else None
    rows = [_row(model, name, one, ground, chosen, draws) for model, one in measured.items()]
    best = next((row.metrics["ndcg@10"] for row in rows if row.model == ORACLE), 0.0)
    if best > 0:
        rows = [row.with_metric("oracle_share", row.metrics["ndcg@10"] / best) for row in rows]
    return rows, _comparisons(name, rows, measured, chosen, draws)


def _row(
    model: str, name: str, measured: Measured, ground: Ground, chosen: Mask, draws: Bootstrap | None
) -> EvaluationRow:
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}

    def note(metric: str, value: float, drawn: Doubles | None) -> None:
        values[metric] = value
        found = None if drawn is None else interval(drawn)
        if found is not None:
            intervals[metric] = (found.low, found.high)

    for metric, by_row in measured.by_row.items():
        part = by_row[chosen]
        note(metric, float(part.mean()), None if draws is None else draws.means(part))
    hit = measured.by_row["recall@10"][chosen] > 0
    note("hit_rate@10", *_users_hit(hit, ground.user[chosen], draws))
    shown = measured.answer.ranked[chosen][:, :LIST]
    items = len(ground.shares)
    if (shown >= 0).any():
        note("coverage@10", metrics.coverage(shown, items), None)
        note("gini@10", metrics.gini(shown, items), None)
    for metric, value, drawn in _of_scores(measured.answer, chosen, draws):
        note(metric, value, drawn)
    return EvaluationRow(model, name, int(chosen.sum()), values, intervals)


def _users_hit(hit: Mask, user: NDArray[np.integer], draws: Bootstrap | None) -> tuple[float, Doubles | None]:
    """The share of users with a hit in any of their rows."""
    _, first, codes = np.unique(user, return_index=True, return_inverse=True)
    any_hit = np.zeros(len(first))
    any_hit[codes[hit]] = 1.0
    if draws is None:
        return float(any_hit.mean()), None
    once = np.full(len(user), np.nan)  # each user counts by one of his rows
    once[first] = any_hit
    return float(any_hit.mean()), draws.means(once)


def _of_scores(answer: Answer, chosen: Mask, draws: Bootstrap | None) -> list[tuple[str, float, Doubles | None]]:
    """AUC and, of probabilities, log-loss and calibration error: metric, value, its draws."""
    scores = answer.scores[chosen]
    labels = np.zeros(scores.shape, bool)
    labels[:, 0] = True
    flat, values = labels.ravel(), scores.ravel()
    sorted_auc = metrics.WeightedAuc(flat, values)
    found: list[tuple[str, float, Doubles | None]] = []
    of_auc = None
    if draws is not None:
        count = min(AUC_DRAWS, len(draws.weights))
        of_auc = np.array([sorted_auc(np.repeat(draws.row_weights(n), NEGATIVES + 1)) for n in range(count)])
    found.append(("auc", metrics.auc(flat, values), of_auc))
    if not answer.calibrated:
        return found
    loss = metrics.log_losses(flat, values).reshape(scores.shape).mean(axis=1)
    found.append(("log_loss", float(loss.mean()), None if draws is None else draws.means(loss)))
    of_bins = None if draws is None else _calibration_draws(flat, values, scores.shape, draws)
    found.append(("calibration_error", metrics.calibration_error(flat, values), of_bins))
    return found


def _calibration_draws(labels: Mask, values: Any, shape: tuple[int, ...], draws: Bootstrap) -> Doubles:
    """The calibration error of each draw, in the bins of the whole, float64 [B]."""
    bins = metrics.calibration_bins(values)
    distance = labels - values.astype(np.float64)
    error = np.zeros(len(draws.weights))
    for at in range(int(bins.max()) + 1):
        error += np.abs(draws.sums(np.where(bins == at, distance, 0.0).reshape(shape).sum(axis=1)))
    return np.asarray(error / (draws.sums(np.ones(shape[0])) * shape[1]), np.float64)


def _comparisons(
    name: str,
    rows: Sequence[EvaluationRow],
    measured: Mapping[str, Measured],
    chosen: Mask,
    draws: Bootstrap | None,
) -> list[Comparison]:
    """The stages against the best baseline of each metric."""
    found = []
    baselines = [row for row in rows if row.model in ALL_BASELINES]
    for metric in COMPARED if baselines else ():
        best = max(baselines, key=lambda row: row.metrics[metric])
        for row in (row for row in rows if row.model in (TWO_TOWER, CASCADE)):
            lead = compare(measured[row.model], measured[best.model], metric, chosen, draws)
            found.append(Comparison(name, metric, row.model, best.model, best.metrics[metric], *lead))
    return found


def compare(
    one: Measured, other: Measured, metric: str, chosen: Mask, draws: Bootstrap | None
) -> tuple[float, tuple[float, float] | None]:
    """How much higher the first model's metric is, and the interval of that: paired, row by row."""
    difference = (one.by_row[metric] - other.by_row[metric])[chosen]
    found = None if draws is None else interval(draws.means(difference))
    return float(difference.mean()), None if found is None else (found.low, found.high)
