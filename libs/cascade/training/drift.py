"""Both sides of drift: a reference of what a model was trained on, and the same columns of lists that it served.

- Features of users: the training rows, masked as training saw them, against what the models were served with.
- Items and the click probability: lists made offline, of a sample of rows, in the way serving makes its plain ones
  (300 candidates, without what the user met lately, the ranker's best), against the lists shown. So the same is held
  against the same: what people met in training is no measure of what a recommender shows.
- Retrieval's score: asked of the query tower and index for rows, and for lists served again with the features they were
  served with; a request asks retrieval for no scores, so none are logged.

Of each visitor, a user in an hour, one row or list drawn by a seed counts. How much a user did before is held against
the rows that lists are made for, the latest ones: histories grow as a shop's data does, and training begins with none.
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
    HOUR_S,
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
from cascade.features.spec import HISTORY_LENGTH, OOV, RECENT_LENGTH, USER_CATEGORICAL
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
ROWS_AN_HOUR, LISTS_AN_HOUR = 2000, 160
"""Visitors of training, and visitors for whom lists are made, at most, of each hour of the day."""
MOST_SERVED = 20_000
"""Visitors looked at, at most, of a window."""


# What a model was trained on


def retrieval_reference(
    learned: TrainingSet, rows: Path, retrieval: Retrieval, source: InteractionSource, seed: int, threads: int = 1
) -> Reference:
    """Of a retrieval bundle.

    learned: what it was trained on; rows: a file of `training_rows`, of which a sample is asked for candidates
    source: holds the rows' users' earlier events
    """
    names = {**user_names(retrieval.user_transform), **_context_names(retrieval)}
    asked = _sampled_rows(rows, seed)
    columns: dict[str, Column] = {}
    if _reads_history(retrieval):
        columns[HISTORY] = _lengths(asked, source)
    with torch_threads(threads):
        columns[SCORE] = similarities(asked, retrieval, source)
    return join(_learned_features(learned, seed, names), features_of(columns, _hours(asked), {}))


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
    names = {**user_names(ranker.user_transform), **context_names(ranker.context_transform)}
    asked = _sampled_rows(rows, seed)
    history: dict[str, Column] = {HISTORY: _lengths(asked, source)} if ranker.dlrm.config.history_length else {}
    with torch_threads(threads):
        positions, chances = plain_lists(asked, retrieval, ranker, source)
    whole = (positions >= 0).all(axis=1)
    shown = {**item_columns(ranker.items, positions[whole]), SCORE: chances[whole]}
    return join(
        _learned_features(learned, seed, names),
        features_of(history, _hours(asked), {}),
        features_of(shown, _hours(asked)[whole], item_names(items)),
    )


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
    """A list of each visitor whom a version of a service answered, of so many visitors at most."""
    told = shown.lists.column("versions").to_pylist()
    mine = shown.take(np.array([json.loads(one).get(service) == version for one in told], bool))
    users = _codes(mine.lists.column("user_id"))
    drawn = np.random.default_rng(0).permutation(len(mine))
    one_each = drawn[_first_of_each(users[drawn], mine.timestamp[drawn] // HOUR_S)]
    return mine.take(np.sort(one_each[:MOST_SERVED]))


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


def _learned_features(learned: TrainingSet, seed: int, names: Names) -> Mapping[str, FeatureReference]:
    users = learned.user.categorical[:, USER_CATEGORICAL.index("user_id")]
    some = learned.take(
        one_row_a_visitor(np.asarray(users, np.int64), np.asarray(learned.timestamp), ROWS_AN_HOUR, seed)
    )
    columns = {**user_columns(some.user), **context_columns(some.context)}
    columns = {name: column for name, column in columns.items() if name in names or column.dtype != np.int32}
    return features_of(columns, hours_of(some.timestamp), names)


def _sampled_rows(rows: Path, seed: int) -> pa.Table:
    """Read a batch at a time: of a large shop they are millions, and thousands are taken."""
    with pq.ParquetFile(rows, read_dictionary=["user_id"]) as file:
        who = file.read(columns=["user_id", "timestamp"])
        moments = np.asarray(who.column("timestamp"), np.int64)
        chosen = one_row_a_visitor(_codes(who.column("user_id")) + 1, moments, LISTS_AN_HOUR, seed)
    with pq.ParquetFile(rows) as file:
        parts, start = [], 0
        for batch in file.iter_batches():
            mine = chosen[(chosen >= start) & (chosen < start + len(batch))] - start
            parts.append(pa.Table.from_batches([batch.take(pa.array(mine))]))
            start += len(batch)
        return pa.concat_tables(parts) if parts else file.schema_arrow.empty_table()


def one_row_a_visitor(
    users: NDArray[np.int64], timestamp: NDArray[np.int64], most: int, seed: int
) -> NDArray[np.int64]:
    """Positions of one row of each user and hour, drawn by the seed, at most so many of each hour of the day; in order.

    Of rows whose user is hidden (0) as large a part is taken as of the others.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(users))
    known, hidden = drawn[users[drawn] != OOV], drawn[users[drawn] == OOV]
    kept = known[_first_of_each(users[known], timestamp[known] // HOUR_S)]
    part = len(kept) / len(known) if len(known) else 1.0
    found = rng.permutation(np.concatenate([kept, hidden[: round(part * len(hidden))]]))
    hours = hours_of(timestamp[found])
    order = np.argsort(hours, kind="stable")
    first = np.searchsorted(hours[order], hours[order], side="left")
    return np.sort(found[order][np.arange(len(order)) - first < most])


def _first_of_each(users: NDArray[np.int64], hours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the first row of each pair of user and hour, in order."""
    if not len(users):
        return np.zeros(0, np.int64)
    _, first = np.unique(users * (int(hours.max()) + 1) + hours, return_index=True)
    return np.sort(first)


def _codes(users: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each distinct user."""
    if not len(users):
        return np.zeros(0, np.int64)
    encoded = users if pa.types.is_dictionary(users.type) else users.dictionary_encode()
    return np.concatenate([np.asarray(chunk.indices, np.int64) for chunk in encoded.unify_dictionaries().chunks])


def _lengths(rows: pa.Table, source: InteractionSource) -> NDArray[np.float64]:
    """How many of the latest interactions each row's user has, of as many as the online store keeps."""
    histories = histories_of_rows(rows, source, [])
    length = histories.history_end - histories.history_start
    return np.asarray(np.minimum(length, RECENT_LENGTH), np.float64)


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
