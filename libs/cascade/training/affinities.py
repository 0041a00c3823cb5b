"""The towers' part of a ranker's logits: over rows, and fitted.

Shapes: R rows, N items of each, I items of the table, D the dimension of the towers' vectors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascade.features.history import Histories
from cascade.features.item_table import ItemTable
from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.models.affinity import Affinity, ItemAffinity
from cascade.models.dlrm import Dlrm
from cascade.models.two_tower import TwoTower
from cascade.training.calibration import calibrate, logits_of, negatives_of_clicks
from cascade.training.dlrm_training import DlrmTraining
from cascade.training.loop import CalibrationReport
from cascade.training.query_rows import query_features
from cascade.training.rows import sample_rows
from cascade.training.stacking import stacking_weight

Floats = NDArray[np.float32]
_AT_ONCE = 512

CANDIDATES = 300
"""as many as retrieval finds: the share of the catalog that is ranked"""
_STACKED_ROWS, _SAMPLED = 3000, 500
_FEWEST, _MOST = 30, 100
"""candidates of a row"""
_REMEMBERED = 1000
"""events of a user whose items are hidden"""


def row_affinities(
    affinity: ItemAffinity,
    user: Encoded,
    context: Encoded,
    histories: Histories | None,
    timestamp: NDArray[np.int64],
    positions: NDArray[np.integer],
) -> Floats:
    """What the towers add to the logits of rows' items [R, N], float32 [R, N].

    histories: of the rows, by positions of the affinity's table; timestamp: int64 [R], the rows' moments
    """
    features = query_features(affinity.mode, user, context)
    found = np.empty(positions.shape, np.float32)
    for start in range(0, len(positions), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        some = features.take(part)
        length = affinity.towers.config.history_length
        events = None if histories is None else histories.take(part).padded(timestamp[part], length)
        queries = affinity.queries(some.categorical, some.continuous, events)
        found[part] = affinity.scores(queries, list(positions[part]))
    return found


def stack(
    model: Dlrm,
    towers: TwoTower,
    judged: TrainingSet,
    items: ItemTable,
    training: DlrmTraining,
    seed: int,
) -> CalibrationReport:
    """Give a ranker the towers' part of its logit, as far as it helps on rows that neither learned from, and calibrate
    the sum. The report tells the weight."""
    model.affinity = None
    plain = Affinity(towers, 1.0)
    over = plain.over(items)
    weight = _weight(model, over, judged, items, seed)
    if weight > 0:
        model.affinity = replace(plain, weight=weight)
    if not training.calibrate:
        return CalibrationReport("none", 0, {}, 0.0, 0.0, affinity=weight)
    rows = judged.take(sample_rows(judged, training.validation_rows, seed))
    together = negatives_of_clicks(rows, items, training.negatives_per_click, seed + 1)
    scores = row_affinities(over, rows.user, rows.context, rows.histories, rows.timestamp, together)
    model.calibration, report = calibrate(
        model, rows, items, training.negatives_per_click, seed + 1, offsets=scores * np.float32(weight)
    )
    return replace(report, affinity=weight)


def _weight(model: Dlrm, affinity: ItemAffinity, judged: TrainingSet, items: ItemTable, seed: int) -> float:
    """Fitted on clicks among candidates: the items that the towers score highest of a sample, where the click is one
    of them, as retrieval gives them to the ranker."""
    rows = judged.take(sample_rows(judged, _STACKED_ROWS, seed))
    count = min(_SAMPLED, len(items) - 1)
    if count < 1 or not len(rows):
        return 0.0
    kept = int(np.clip(round(count * CANDIDATES / len(items)), min(count, _FEWEST), _MOST))
    together = negatives_of_clicks(rows, items, count, seed + 2)
    scores = row_affinities(affinity, rows.user, rows.context, rows.histories, rows.timestamp, together)
    # The filter hides what was met; the towers may put it first, as training left it out.
    scores[:, 1:][_met(rows, together[:, 1:])] = -np.inf
    best = np.argsort(-scores[:, 1:], axis=1, kind="stable")[:, : kept - 1] + 1  # [R, kept − 1]
    found = (scores[:, 1:] > scores[:, :1]).sum(axis=1) < kept
    chosen = np.concatenate([np.zeros((len(rows), 1), np.int64), best], axis=1)[found]
    rows, together, scores = rows.take(np.flatnonzero(found)), together[found], scores[found]
    together, scores = (np.take_along_axis(part, chosen, axis=1) for part in (together, scores))
    enough = np.isfinite(scores).all(axis=1)
    rows, together, scores = rows.take(np.flatnonzero(enough)), together[enough], scores[enough]
    return stacking_weight(logits_of(model, rows, items, together), scores, seed)


def _met(rows: TrainingSet, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of each row's items its user met among the latest events before it, bool [R, N]."""
    if rows.histories is None:
        return np.zeros(positions.shape, bool)
    met, _, _ = rows.histories.padded(rows.timestamp, _REMEMBERED)
    return np.stack([np.isin(mine, before) for mine, before in zip(positions, met, strict=True)])
