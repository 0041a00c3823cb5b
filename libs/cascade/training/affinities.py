"""What towers and items met add to a ranker's logits: over rows, and fitted.

Shapes: R rows, N items of each, I items of the table, D the dimension of the towers' vectors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascade.features.history import Histories
from cascade.features.item_table import ItemTable
from cascade.features.spec import EVENT_TYPE_ROWS, NEGATIVE_EVENT_TYPES, RECENT_LENGTH, Encoded
from cascade.features.training_set import TrainingSet
from cascade.models.affinity import Affinity, ItemAffinity
from cascade.models.dlrm import Dlrm
from cascade.models.item_to_item import ItemToItem
from cascade.models.two_tower import TwoTower
from cascade.training.calibration import calibrate, logits_of, negatives_of_clicks
from cascade.training.dlrm_training import DlrmTraining
from cascade.training.item_to_item import fit, users_items, weighed
from cascade.training.loop import CalibrationReport
from cascade.training.query_rows import query_features
from cascade.training.rows import sample_rows
from cascade.training.stacking import stacking_weights

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
    """What an affinity adds to the logits of rows' items [R, N], float32 [R, N].

    histories: of the rows, by positions of the affinity's table; timestamp: int64 [R], the rows' moments
    """
    features = query_features(affinity.mode, user, context)
    found, length = np.empty(positions.shape, np.float32), affinity.affinity.events_read
    for start in range(0, len(positions), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        some = features.take(part)
        events = None if histories is None else histories.take(part).padded(timestamp[part], length)
        found[part] = affinity.logits(some.categorical, some.continuous, events, list(positions[part]))
    return found


def stack(
    model: Dlrm,
    towers: TwoTower,
    learned: TrainingSet,
    judged: TrainingSet,
    items: ItemTable,
    training: DlrmTraining,
    seed: int,
) -> CalibrationReport:
    """Give a ranker what the towers and the items met add to its logit, as far as each helps on rows that none of them
    learned from, and calibrate the sum. The report tells what counts for how much.

    learned: what the towers and the ranker learned from; judged: later rows, of other users, of the same training set.
    Once weighed and calibrated, the items' votes are fitted anew on both: what is latest counts too.
    """
    model.affinity = None
    refusals = tuple(EVENT_TYPE_ROWS[name] for name in NEGATIVE_EVENT_TYPES)
    alone = Affinity(towers, 1.0, refusals=refusals, votes=RECENT_LENGTH).over(items)
    rows, together, scores = _candidates(alone, judged, items, seed)
    links = fit(users_items([learned], items))
    said = [_said(link, alone, rows, together) for link in links.values()]
    [by_towers], by_items = stacking_weights(logits_of(model, rows, items, together), [[scores], said], seed)
    item_to_item = weighed(list(links.values()), by_items)
    if by_towers > 0 or item_to_item is not None:
        model.affinity = replace(alone.affinity, weight=by_towers, item_to_item=item_to_item)
    weights = {"towers": by_towers, **dict(zip(links, by_items, strict=True))}
    report = CalibrationReport("none", 0, {}, 0.0, 0.0)
    if training.calibrate:
        report = _calibrated(model, judged, items, training, seed)
    if model.affinity is not None and item_to_item is not None:
        whole = weighed(list(fit(users_items([learned, judged], items)).values()), by_items)
        model.affinity = replace(model.affinity, item_to_item=whole)
    return replace(report, affinity=weights)


def _calibrated(
    model: Dlrm, judged: TrainingSet, items: ItemTable, training: DlrmTraining, seed: int
) -> CalibrationReport:
    """Calibrate the sum."""
    rows = judged.take(sample_rows(judged, training.validation_rows, seed))
    offsets = None
    if model.affinity is not None:
        drawn = negatives_of_clicks(rows, items, training.negatives_per_click, seed + 1)
        over = model.affinity.over(items)
        offsets = row_affinities(over, rows.user, rows.context, rows.histories, rows.timestamp, drawn)
    model.calibration, report = calibrate(model, rows, items, training.negatives_per_click, seed + 1, offsets=offsets)
    return report


def _candidates(
    towers: ItemAffinity, judged: TrainingSet, items: ItemTable, seed: int
) -> tuple[TrainingSet, NDArray[np.int64], Floats]:
    """Clicks among candidates: the items that the towers score highest of a sample, where the click is one of them, as
    retrieval gives them to the ranker. R rows, their items int64 [R, M], the click first, and the towers' scores.

    Items met are no candidates, and clicks on them no rows: the filter hides them. The towers may put one first, as
    training left it out.
    """
    rows = judged.take(sample_rows(judged, _STACKED_ROWS, seed))
    count = min(_SAMPLED, len(items) - 1)
    if count < 1 or not len(rows):
        return rows.take(np.zeros(0, np.int64)), np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32)
    kept = int(np.clip(round(count * CANDIDATES / len(items)), min(count, _FEWEST), _MOST))
    together = negatives_of_clicks(rows, items, count, seed + 2)
    scores = row_affinities(towers, rows.user, rows.context, rows.histories, rows.timestamp, together)
    scores[_met(rows, together)] = -np.inf
    best = np.argsort(-scores[:, 1:], axis=1, kind="stable")[:, : kept - 1] + 1  # [R, kept − 1]
    found = (scores[:, 1:] > scores[:, :1]).sum(axis=1) < kept
    chosen = np.concatenate([np.zeros((len(rows), 1), np.int64), best], axis=1)[found]
    rows, together, scores = rows.take(np.flatnonzero(found)), together[found], scores[found]
    together, scores = (np.take_along_axis(part, chosen, axis=1) for part in (together, scores))
    enough = np.isfinite(scores).all(axis=1)
    return rows.take(np.flatnonzero(enough)), together[enough], scores[enough]


def _said(links: ItemToItem, towers: ItemAffinity, rows: TrainingSet, positions: NDArray[np.int64]) -> Floats:
    """What an item-to-item model says of rows' items [R, M], float32 [R, M]."""
    if rows.histories is None or not len(rows):
        return np.zeros(positions.shape, np.float32)
    over = replace(towers, affinity=replace(towers.affinity, item_to_item=links))
    return np.stack(over.of_items(rows.histories.padded(rows.timestamp, towers.affinity.votes), list(positions)))


def _met(rows: TrainingSet, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of each row's items its user met among the latest events before it, bool [R, N]."""
    if rows.histories is None:
        return np.zeros(positions.shape, bool)
    met, _, _ = rows.histories.padded(rows.timestamp, _REMEMBERED)
    return np.stack([np.isin(mine, before) for mine, before in zip(positions, met, strict=True)])
