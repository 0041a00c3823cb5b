"""What an evaluation asks: rows of later days, and what each row's user had met before its moment.

Shapes: R rows, E events of the rows' users, I items (positions of an item table).
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.contract import Dataset
from cascade.features.history import Histories
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.point_in_time import training_rows
from cascade.features.spec import EVENT_TYPE_ROWS, NEGATIVE_EVENT_TYPES, OOV
from cascade.features.top_category import EventWeights, top_category_of
from cascade.training.contestants import history_matrix
from cascade.training.errors import EvaluationError

Positions = NDArray[np.int32]
_DAY_S = 86_400


@dataclass(frozen=True)
class History:
    """The events of the rows' users in order of user and time, and which of them each row may know.

    item_id, event_type: object [E]; position: int32 [E], -1 outside the item table; timestamp: int64 [E]
    start, end: int64 [R], the events known to each row, oldest first
    """

    item_id: NDArray[np.object_]
    event_type: NDArray[np.object_]
    position: Positions
    timestamp: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many events each row knows, int64 [R]."""
        return self.end - self.start

    def ids(self) -> list[list[str]]:
        """The item ids of each row, oldest first."""
        return [self.item_id[a:b].tolist() for a, b in zip(self.start, self.end, strict=True)]

    def seen(self, row: int) -> Positions:
        """The known items of a row, with repeats, int32."""
        met = self.position[self.start[row] : self.end[row]]
        known: Positions = met[met != UNKNOWN]
        return known

    def last(self, events: int) -> History:
        """As if each row's user had met no more than the last `events`."""
        return replace(self, start=np.maximum(self.start, self.end - events))

    def take(self, rows: NDArray[np.integer]) -> History:
        """Some of the rows."""
        return replace(self, start=self.start[rows], end=self.end[rows])

    def as_read(self, places: Positions) -> Histories:
        """For a query tower that reads them: events with items at their places, int32 [I + 1] of each position and of
        -1 at the end."""
        kinds = np.array([EVENT_TYPE_ROWS.get(str(kind), OOV) for kind in self.event_type], np.int8)
        return Histories(places[self.position], kinds, self.timestamp, self.start, self.end)

    def matrix(self, items: int) -> Any:
        """What each row's user met and did not refuse, sparse float32 [R, I] of ones."""
        counts = self.counts
        rows = np.repeat(np.arange(len(counts)), counts)
        ends = np.cumsum(counts)
        events = np.arange(len(rows)) - np.repeat(ends - counts, counts) + np.repeat(self.start, counts)
        liked = (self.position[events] != UNKNOWN) & ~np.isin(self.event_type[events], NEGATIVE_EVENT_TYPES)
        return history_matrix(rows[liked], self.position[events[liked]], (len(counts), items))


@dataclass(frozen=True)
class Questions:
    """R interactions. table: as `training_rows` writes them; item: int32 [R], the one right answer of each."""

    table: pa.Table
    item: Positions
    history: History

    def __len__(self) -> int:
        return len(self.item)

    @property
    def devices(self) -> list[str | None]:
        """The device of each row."""
        found: list[str | None] = self.table.column("device_type").to_pylist()
        return found

    @property
    def user_codes(self) -> NDArray[np.int64]:
        """The users as numbers, int64 [R]."""
        codes = self.table.column("user_id").combine_chunks().dictionary_encode()
        codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
        found: NDArray[np.int64] = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return found

    def take(self, rows: NDArray[np.integer]) -> Questions:
        """Some of the rows."""
        return Questions(self.table.take(pa.array(rows)), self.item[rows], self.history.take(rows))

    def fresh(self) -> NDArray[np.bool_]:
        """Rows whose item their user had not met before, bool [R]."""
        return np.array([item not in self.history.seen(row) for row, item in enumerate(self.item)], bool)

    def as_new_users(self, events: int, items: pa.Table, weights: EventWeights) -> Questions:
        """The same rows, asked by users of whom nothing is known but their last `events` interactions.

        items: the catalog's item_id and category_l1; weights: for the top category of those events
        """
        table = self.table
        for name in ("user_id", "age", "gender"):
            table = _put(table, name, [None] * len(self))
        return Questions(table, self.item, self.history.last(events)).with_top_category(items, weights)

    def with_top_category(self, items: pa.Table, weights: EventWeights) -> Questions:
        """The same rows with the top category that their histories give."""
        history = self.history
        category = dict(zip(*(items.column(name).to_pylist() for name in ("item_id", "category_l1")), strict=True))
        top: list[str | None] = []
        moments = self.table.column("timestamp").to_pylist()
        for start, end, at in zip(history.start, history.end, moments, strict=True):
            known = (
                (category.get(history.item_id[e]), int(history.timestamp[e]), str(history.event_type[e]))
                for e in range(start, end)
            )
            top.append(top_category_of(known, at, weights))
        return replace(self, table=_put(self.table, "top_category", top))


def _put(table: pa.Table, name: str, values: Sequence[str | None]) -> pa.Table:
    """The table with a column's values replaced."""
    place = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(place, field, pa.array(values, field.type))


def ask(
    dataset: Dataset,
    days: Sequence[dt.date],
    items: ItemTable,
    *,
    max_rows: int,
    seed: int,
    weights: EventWeights,
    rows_file: Path | None = None,
) -> tuple[Questions, int]:
    """A seeded sample of the days' rows with known items, and how many rows had unknown ones.

    rows_file: the days as `training_rows` wrote them; None: they are computed here
    Raises EvaluationError where there is no row to ask about.
    """
    with tempfile.TemporaryDirectory(prefix="cascade-evaluation-") as folder:
        path = rows_file or Path(folder) / "rows.parquet"
        if rows_file is None:
            training_rows(dataset, list(days), path, weights=weights)
        table = pq.read_table(path)
    positions = items.positions(table.column("item_id"))
    known = np.flatnonzero(positions != UNKNOWN)
    if not len(known):
        raise EvaluationError(
            f"the days {', '.join(map(str, days))} hold {len(positions)} interactions, none with an item of the "
            "ranker's table; evaluate on days with interactions, with the catalog the models were trained on"
        )
    dropped = len(positions) - len(known)
    if len(known) > max_rows:
        known = np.sort(np.random.default_rng(seed).choice(known, max_rows, replace=False))
    rows = table.take(pa.array(known))
    return Questions(rows, positions[known], history_of(dataset, rows, items)), dropped


def history_of(dataset: Dataset, rows: pa.Table, items: ItemTable) -> History:
    """What each row's user met strictly before its moment, over all earlier days of the dataset."""
    users = pc.unique(rows.column("user_id"))
    latest = int(pc.max(rows.column("timestamp")).as_py())
    days = [day for day in dataset.days() if (day - dt.date(1970, 1, 1)).days * _DAY_S <= latest]
    names = ["user_id", "item_id", "timestamp", "event_type"]
    parts = [
        part.select(names).filter(pc.is_in(part.column("user_id"), users)) for part in dataset.interaction_parts(days)
    ]
    events = pa.concat_tables(parts)
    user = np.asarray(pc.index_in(events.column("user_id"), users), np.int64)
    timestamp = events.column("timestamp").to_numpy().astype(np.int64)
    order = np.lexsort((timestamp, user))
    user, timestamp = user[order], timestamp[order]
    ids = events.column("item_id").take(pa.array(order))
    # Users and moments as one ascending number, so that all rows are found at once.
    first = min(int(timestamp.min(initial=latest)), int(pc.min(rows.column("timestamp")).as_py()))
    span = latest - first + 2
    keys = user * span + (timestamp - first).clip(max=span - 1)
    asked = np.asarray(pc.index_in(rows.column("user_id"), users), np.int64)
    moment = rows.column("timestamp").to_numpy().astype(np.int64)
    return History(
        ids.to_numpy(zero_copy_only=False),
        events.column("event_type").take(pa.array(order)).to_numpy(zero_copy_only=False),
        items.positions(ids),
        timestamp,
        np.searchsorted(keys, asked * span),
        np.searchsorted(keys, asked * span + (moment - first)),
    )
