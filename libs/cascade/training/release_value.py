"""What a release would have earned in place of the one that was logged: its policy on the logged requests.

For each logged list the release retrieves and ranks anew, as of the list's own moment, and draws without replacement as
re-ranking does: item i with weight p_i^(1/T) for click probabilities p. The chance that it would have shown the logged
items goes into `off_policy.estimate`, together with a click model fitted on the other half of the users.

Shapes: N lists, K positions, C candidates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cascade.data.contract import Dataset
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.point_in_time import ROWS_SCHEMA
from cascade.features.top_category import EVENT_WEIGHTS, EventWeights
from cascade.training.answers import Stages
from cascade.training.device import torch_threads
from cascade.training.errors import EvaluationError
from cascade.training.off_policy import (
    ASSUMPTIONS,
    ClickModel,
    Doubles,
    Estimate,
    Log,
    estimate,
    folds,
    plackett_luce,
    plackett_luce_mean,
)
from cascade.training.questions import Questions, history_of
from cascade.training.stages import Ranker, Retrieval

POSITIONS = 10
"""Of each list, at most: weights of deeper positions are products of too many ratios to say anything."""


@dataclass(frozen=True)
class Lists:
    """Logged lists. item: int32 [N, K], -1 outside the item table; propensity, clicked: float64 [N, K], NaN behind the
    end of a list."""

    questions: Questions
    item: NDArray[np.int32]
    propensity: Doubles
    clicked: Doubles


def value_of(
    dataset: Dataset,
    retrieval: Retrieval,
    ranker: Ranker,
    days: Sequence[dt.date] | None = None,
    *,
    temperature: float = 0.1,
    max_lists: int = 2000,
    candidates: int = 300,
    exclude_seen: bool = True,
    seed: int = 0,
    threads: int | None = 1,
    weights: EventWeights = EVENT_WEIGHTS,
) -> list[Estimate]:
    """Clicks a list of this release, by each estimator under each assumption, from the impressions of `days`.

    temperature: of the release's re-ranking; the log has no support for one without chance
    Raises EvaluationError where there are no impressions.
    """
    if temperature <= 0:
        raise EvaluationError(f"temperature {temperature}: a release that draws has one above 0")
    lists = logged_lists(dataset, ranker.items, days, max_lists=max_lists, seed=seed, weights=weights)
    stages = Stages(retrieval, ranker, ranker.items, candidates=candidates, exclude_seen=exclude_seen)
    with torch_threads(threads):
        retrieved, chances, of_shown = stages.weighed(lists.questions, lists.item)
    user = lists.questions.user_codes
    log_weights = np.where(retrieved == UNKNOWN, -np.inf, np.log(np.maximum(chances, 1e-12)) / temperature)
    drawn = _columns(retrieved, lists.item)
    clicked, shown = lists.clicked, ~np.isnan(lists.clicked)
    position = np.broadcast_to(np.arange(clicked.shape[1]), clicked.shape)
    predicted, expected = np.zeros(clicked.shape), np.zeros(clicked.shape)
    half = folds(user, seed)
    for judged in (half, ~half):
        known = shown & ~judged[:, None]
        if not known.any() or not judged.any():
            raise EvaluationError(
                "the log holds too few users to fit a click model on one half and use it on the other"
            )
        model = ClickModel(of_shown[known].astype(np.float64), position[known], clicked[known])
        predicted[judged] = model.predict(of_shown[judged].astype(np.float64), position[judged])
        for k in range(clicked.shape[1]):
            values = model.predict(chances[judged].astype(np.float64), k)
            expected[judged, k] = plackett_luce_mean(log_weights[judged], drawn[judged, : k + 1], values)[:, k]
    log = Log(clicked, lists.propensity, plackett_luce(log_weights, drawn), user, predicted, expected)
    return [one for assumption in ASSUMPTIONS for one in estimate(log, assumption=assumption).values()]


def logged_lists(
    dataset: Dataset,
    items: ItemTable,
    days: Sequence[dt.date] | None = None,
    *,
    max_lists: int,
    seed: int,
    weights: EventWeights = EVENT_WEIGHTS,
) -> Lists:
    """A seeded sample of the logged lists, with what was known of their users at their moments."""
    table = dataset.impressions(days)
    table = table.filter(pc.less(table.column("position"), POSITIONS))
    if not table.num_rows:
        raise EvaluationError("there are no impressions on these days; serve some, or name days that have them")
    request = np.unique(np.asarray(table.column("request_id").to_pylist(), object), return_inverse=True)[1]
    chosen = np.arange(int(request.max()) + 1)
    if len(chosen) > max_lists:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, max_lists, replace=False))
    row = np.full(int(request.max()) + 1, UNKNOWN)
    row[chosen] = np.arange(len(chosen))
    kept = np.flatnonzero(row[request] != UNKNOWN)
    table, at = table.take(pa.array(kept)), row[request[kept]]
    position = table.column("position").to_numpy()
    shape = (len(chosen), int(position.max()) + 1)
    item = np.full(shape, UNKNOWN, np.int32)
    propensity, clicked = np.full(shape, np.nan), np.full(shape, np.nan)
    item[at, position] = items.positions(table.column("item_id"))
    propensity[at, position] = table.column("propensity").to_numpy()
    clicked[at, position] = table.column("clicked").to_numpy(zero_copy_only=False).astype(float)
    first = np.unique(at, return_index=True)[1]
    rows = _rows(dataset, table.take(pa.array(first)))
    questions = Questions(rows, np.zeros(len(chosen), np.int32), history_of(dataset, rows, items))
    return Lists(questions.with_top_category(dataset.items(), weights), item, propensity, clicked)


def _rows(dataset: Dataset, lists: pa.Table) -> pa.Table:
    """As `training_rows` would write them, but for the item and the top category."""
    users = dataset.users()
    place = pc.index_in(lists.column("user_id"), users.column("user_id"))
    columns = {
        "user_id": lists.column("user_id"),
        "item_id": lists.column("item_id"),
        "timestamp": lists.column("timestamp"),
        "device_type": lists.column("device_type"),
        "event_type": pa.nulls(len(lists), pa.string()),
        "age": users.column("age").take(place),
        "gender": users.column("gender").take(place),
        "top_category": pa.nulls(len(lists), pa.string()),
        "feature_timestamp": pa.nulls(len(lists), pa.int64()),
    }
    return pa.table([columns[name].cast(ROWS_SCHEMA.field(name).type) for name in ROWS_SCHEMA.names], ROWS_SCHEMA)


def _columns(retrieved: NDArray[np.int32], shown: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each shown item stands among the candidates, int [N, K]; -1 for one that is none of them."""
    columns = np.full(shown.shape, UNKNOWN, np.int64)
    for k in range(shown.shape[1]):
        same = (retrieved == shown[:, k : k + 1]) & (shown[:, k : k + 1] != UNKNOWN)
        columns[:, k] = np.where(same.any(axis=1), same.argmax(axis=1), UNKNOWN)
    return columns
