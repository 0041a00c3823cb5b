"""Both sides of drift: a reference of what a model was trained on, and the same columns of lists that it served.

- Features of users: the training rows, masked as training saw them, against what the models were served with.
- Items and the click probability: lists made offline, of a sample of rows, in the way serving makes its plain ones
  (300 candidates, without what the user met lately, the ranker's best), against the lists shown. So the same is held
  against the same: what people met in training is no measure of what a recommender shows.
- Retrieval's score: asked of the query tower and index for rows, and for lists served again with the features they were
  served with; a request asks retrieval for no scores, so none are logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.shown_lists import SERVED, ShownLists
from cascade.drift.columns import (
    HISTORY,
    SCORE,
    Column,
    Names,
    context_columns,
    context_names,
    features_of,
    hours_of,
    item_columns,
    item_names,
    join,
    user_columns,
    user_names,
)
from cascade.drift.judge import Observed
from cascade.drift.reference import FeatureReference, Reference
from cascade.features.history import histories_of_rows
from cascade.features.item_table import UNKNOWN
from cascade.features.source import InteractionSource
from cascade.features.spec import HISTORY_LENGTH
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ItemTransform
from cascade.training.device import torch_threads
from cascade.training.gates import chances_of
from cascade.training.query_rows import queries_of
from cascade.training.stages import Ranker, Retrieval

PLACES = 5
"""Places of a list that are looked at; lists with fewer say nothing of items and scores."""
CANDIDATES = 300
RANKS = 10
"""Of the candidates whose similarity is looked at, spread evenly from the first to the last."""
ROWS_AN_HOUR, LISTS_AN_HOUR = 2000, 200
"""Training rows and lists made, at most, of each hour of the day."""
MOST_SERVED = 20_000
"""Lists looked at, at most, of a window; an even sample of more."""


# What a model was trained on


def retrieval_reference(
    learned: TrainingSet, rows: Path, retrieval: Retrieval, source: InteractionSource, seed: int, threads: int = 1
) -> Reference:
    """Of a retrieval bundle.

    learned: what it was trained on; rows: a file of `training_rows`, of which a sample is asked for candidates
    source: holds the rows' users' earlier events
    """
    features = _learned_features(
        learned,
        seed,
        {**user_names(retrieval.user_transform), **_context_names(retrieval)},
        with_history=_reads_history(retrieval),
    )
    asked = _sampled_rows(rows, seed)
    with torch_threads(threads):
        score = similarities(asked, retrieval, source)
    return join(features, features_of({SCORE: score}, _hours(asked), {}))


def ranker_reference(
    learned: TrainingSet,
    rows: Path,
    retrieval: Retrieval,
    ranker: Ranker,
    items: ItemTransform,
    source: InteractionSource,
    seed: int,
    threads: int = 1,
) -> Reference:
    """Of a ranker's bundle, whose candidates come from `retrieval`; else as above. items: names of what is shown."""
    features = _learned_features(
        learned,
        seed,
        {**user_names(ranker.user_transform), **context_names(ranker.context_transform)},
        with_history=bool(ranker.dlrm.config.history_length),
    )
    asked = _sampled_rows(rows, seed)
    with torch_threads(threads):
        positions, chances = plain_lists(asked, retrieval, ranker, source)
    whole = (positions >= 0).all(axis=1)
    shown = {**item_columns(ranker.items, positions[whole]), SCORE: chances[whole]}
    return join(features, features_of(shown, _hours(asked)[whole], item_names(items)))


def similarities(rows: pa.Table, retrieval: Retrieval, source: InteractionSource | None) -> NDArray[np.float64]:
    """Scores of candidates for rows, at even ranks from the best to the last: float64 [R, RANKS]."""
    count = min(CANDIDATES, len(retrieval.item_ids))
    scores, _ = retrieval.index.search(queries_of(retrieval, rows, source), count)
    ranks = np.linspace(0, count - 1, RANKS).round().astype(np.int64)
    found = np.asarray(scores, np.float64)[:, ranks]
    return np.where(np.isfinite(found), found, np.nan)


def plain_lists(
    rows: pa.Table, retrieval: Retrieval, ranker: Ranker, source: InteractionSource
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first places of plain lists for rows: positions in the ranker's table and probabilities, [R, PLACES] each.

    What a row's user met among the latest events is left out, as the filter does; -1 where too few are left.
    """
    table = ranker.items
    in_table = np.append(table.positions(retrieval.item_ids), UNKNOWN).astype(np.int32)  # the last for padding, -1
    _, found = retrieval.index.search(queries_of(retrieval, rows, source), min(CANDIDATES, len(retrieval.item_ids)))
    candidates = in_table[found]
    chances = chances_of(rows, ranker, np.maximum(candidates, 0), source)
    moments = np.asarray(rows.column("timestamp"), np.int64)
    met, _, _ = histories_of_rows(rows, source, table.item_ids).padded(moments, HISTORY_LENGTH)
    for place in range(met.shape[1]):
        candidates = np.where(candidates == met[:, place, None], np.int32(UNKNOWN), candidates)
    order = np.argsort(np.where(candidates < 0, 1.0, -chances), axis=1, kind="stable")[:, :PLACES]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(chances, order, axis=1)


# What it serves


def lists_of(shown: ShownLists, service: str, version: str) -> ShownLists:
    """Those that a version of a service answered; an even sample where there are very many."""
    told = shown.lists.column("versions").to_pylist()
    mine = np.flatnonzero([json.loads(one).get(service) == version for one in told])
    if len(mine) > MOST_SERVED:
        mine = mine[np.linspace(0, len(mine) - 1, MOST_SERVED).round().astype(np.int64)]
    return shown.take(mine)


def retrieval_served(shown: ShownLists, retrieval: Retrieval, source: InteractionSource) -> dict[str, Observed]:
    """The columns of `retrieval_reference`, of lists that it answered."""
    sampled = shown.take(shown.is_sampled)
    rows = served_rows(sampled)
    hours = hours_of(sampled.timestamp)
    columns = user_columns(retrieval.user_transform.transform(rows))
    if _reads_history(retrieval):
        columns[HISTORY] = _recent(sampled)
    if len(rows):
        with torch_threads(1):
            columns[SCORE] = similarities(rows, retrieval, source)
    observed = _observed(columns, hours)
    if _context_names(retrieval) and retrieval.context_transform is not None:
        observed |= _observed(context_columns(retrieval.context_transform.transform(shown.lists)), _all_hours(shown))
    return observed


def ranker_served(shown: ShownLists, ranker: Ranker) -> dict[str, Observed]:
    """The columns of `ranker_reference`, of lists that it answered."""
    sampled = shown.take(shown.is_sampled)
    columns = user_columns(ranker.user_transform.transform(served_rows(sampled)))
    if ranker.dlrm.config.history_length:
        columns[HISTORY] = _recent(sampled)
    observed = _observed(columns, hours_of(sampled.timestamp))
    observed |= _observed(context_columns(ranker.context_transform.transform(shown.lists)), _all_hours(shown))
    positions = ranker.items.positions(shown.item_ids.ravel().tolist()).reshape(shown.item_ids.shape)
    plain = shown.certain & (positions >= 0).all(axis=1) & np.isfinite(shown.score).all(axis=1)
    items = {**item_columns(ranker.items, positions[plain]), SCORE: shown.score[plain]}
    return observed | _observed(items, _all_hours(shown)[plain])


def served_rows(sampled: ShownLists) -> pa.Table:
    """A row a list: the user with the features that the models were served with, device and moment."""
    served = sampled.lists.column(SERVED.name)
    columns = {name: sampled.lists.column(name) for name in ("user_id", "device_type", "timestamp")}
    return pa.table({**columns, **{name: pc.struct_field(served, name) for name in ("age", "gender", "top_category")}})


# Parts


def _learned_features(
    learned: TrainingSet, seed: int, names: Names, *, with_history: bool
) -> Mapping[str, FeatureReference]:
    some = learned.take(_by_hour(np.asarray(learned.timestamp), ROWS_AN_HOUR, seed))
    columns = {**user_columns(some.user), **context_columns(some.context)}
    columns = {name: column for name, column in columns.items() if name in names or column.dtype != np.int32}
    if with_history and some.histories is not None:
        length = some.histories.history_end - some.histories.history_start
        columns[HISTORY] = np.minimum(length, HISTORY_LENGTH).astype(np.float64)
    return features_of(columns, hours_of(some.timestamp), names)


def _sampled_rows(rows: Path, seed: int) -> pa.Table:
    """Read a batch at a time: of a large shop they are millions, and thousands are taken."""
    with pq.ParquetFile(rows) as file:
        moments = np.asarray(file.read(columns=["timestamp"]).column(0), np.int64)
        chosen = _by_hour(moments, LISTS_AN_HOUR, seed)
        parts, start = [], 0
        for batch in file.iter_batches():
            mine = chosen[(chosen >= start) & (chosen < start + len(batch))] - start
            parts.append(pa.Table.from_batches([batch.take(pa.array(mine))]))
            start += len(batch)
        return pa.concat_tables(parts) if parts else file.schema_arrow.empty_table()


def _by_hour(timestamp: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most so many rows of each hour of the day, drawn by the seed, in order."""
    drawn = np.random.default_rng(seed).permutation(len(timestamp))
    hours = hours_of(timestamp[drawn])
    order = np.argsort(hours, kind="stable")
    first = np.searchsorted(hours[order], hours[order], side="left")
    return np.sort(drawn[order][np.arange(len(order)) - first < most])


def _hours(rows: pa.Table) -> NDArray[np.int64]:
    return hours_of(np.asarray(rows.column("timestamp"), np.int64))


def _all_hours(shown: ShownLists) -> NDArray[np.int64]:
    return hours_of(shown.timestamp)


def _recent(sampled: ShownLists) -> NDArray[np.float64]:
    recent = pc.struct_field(sampled.lists.column(SERVED.name), "recent")
    return np.asarray(pc.cast(recent, pa.float64()), np.float64)


def _observed(columns: Mapping[str, Column], hours: NDArray[np.int64]) -> dict[str, Observed]:
    return {name: Observed(column, hours) for name, column in columns.items()}


def _reads_history(retrieval: Retrieval) -> bool:
    return retrieval.query_tower.config.mode == "session"


def _context_names(retrieval: Retrieval) -> Names:
    where = None if retrieval.query_tower.config.mode == "static" else retrieval.context_transform
    return {} if where is None else context_names(where)
