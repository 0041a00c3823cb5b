"""Histories: what each row's user did before the row's own moment.

All events of all users stand once, sorted by user and time; a row names a range of them. So thirteen million rows with
fifty events each cost two numbers a row, and a history is a slice. Strictly earlier events alone belong to it: those of
the row's own second do not, as in `top_category`.

Shapes: E events, R rows, L the length of a batch's longest history.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.features.columns import require_columns, seconds_of_column
from cascade.features.errors import FeatureInputError
from cascade.features.spec import DEFAULT_EVENT_TYPE, EVENT_TYPE_ROWS, HISTORY_LENGTH, OOV

if TYPE_CHECKING:
    from cascade.features.source import InteractionSource

_COLUMNS = ("user_id", "item_id", "timestamp", "event_type")
_BATCH_ROWS = 1 << 19
_EVENT_TYPES = pa.array(list(EVENT_TYPE_ROWS), pa.string())
_EVENT_ROWS = np.array([*EVENT_TYPE_ROWS.values(), OOV], np.int8)  # the last one: not found

ARRAYS: dict[str, type[np.generic]] = {
    "event_item": np.int32,
    "event_type": np.int8,
    "event_timestamp": np.int64,
    "history_start": np.int64,
    "history_end": np.int64,
}
"""The arrays of `Histories`, as a folder holds them: the first three [E], the last two [R]."""


@dataclass(frozen=True, eq=False)
class Histories:
    """Events sorted by user and time, and each row's range of them.

    event_item: int32 [E], position in the item table, -1 where the table lacks the item
    event_type: int8 [E], rows of `spec.EVENT_TYPE_ROWS`
    event_timestamp: int64 [E], UTC seconds
    history_start, history_end: int64 [R], the row's history is events start:end, oldest first; start is the user's
        first event, however long ago
    """

    event_item: NDArray[np.int32]
    event_type: NDArray[np.int8]
    event_timestamp: NDArray[np.int64]
    history_start: NDArray[np.int64]
    history_end: NDArray[np.int64]

    def __post_init__(self) -> None:
        events = {len(self.event_item), len(self.event_type), len(self.event_timestamp)}
        if len(events) != 1 or len(self.history_start) != len(self.history_end):
            raise FeatureInputError(
                f"the events' columns have lengths {sorted(events)}, the rows' {len(self.history_start)} and "
                f"{len(self.history_end)}; give one value each"
            )

    def __len__(self) -> int:
        return len(self.history_end)

    @classmethod
    def empty(cls, rows: int) -> Histories:
        """Of users who did nothing before."""
        none = np.zeros(rows, np.int64)
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(0, np.int64), none, none)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, as `ARRAYS` lists them."""
        return {name: getattr(self, name) for name in ARRAYS}

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Histories:
        """The histories of the given rows; the events stay as they are."""
        return Histories(
            self.event_item, self.event_type, self.event_timestamp, self.history_start[rows], self.history_end[rows]
        )

    def moved(self, positions: NDArray[np.integer]) -> Histories:
        """The same with items at other positions: `positions` int [I] tells where each of the table's went, or -1."""
        lost = np.append(np.asarray(positions, np.int32), np.int32(-1))
        return Histories(
            lost[self.event_item], self.event_type, self.event_timestamp, self.history_start, self.history_end
        )

    def compact(self, length: int = HISTORY_LENGTH) -> Histories:
        """The same without events that are among no row's last `length`, in memory."""
        first = np.maximum(self.history_start, self.history_end - length)
        change = np.zeros(len(self.event_item) + 1, np.int64)
        np.add.at(change, first, 1)
        np.add.at(change, self.history_end, -1)
        used = np.cumsum(change[:-1]) > 0
        place = np.append(0, np.cumsum(used))
        return Histories(
            self.event_item[used],
            self.event_type[used],
            self.event_timestamp[used],
            place[first],
            place[self.history_end],
        )

    @classmethod
    def joined(cls, parts: Iterable[Histories], length: int = HISTORY_LENGTH) -> Histories:
        """The parts' rows, one after another; each part keeps its own events, those of the last `length` alone."""
        small = [part.compact(length) for part in parts]
        shifts = np.cumsum([0, *(len(part.event_item) for part in small)])
        return cls(
            np.concatenate([part.event_item for part in small]),
            np.concatenate([part.event_type for part in small]),
            np.concatenate([part.event_timestamp for part in small]),
            np.concatenate([part.history_start + shift for part, shift in zip(small, shifts, strict=False)]),
            np.concatenate([part.history_end + shift for part, shift in zip(small, shifts, strict=False)]),
        )

    def padded(
        self, timestamp: NDArray[np.int64], length: int = HISTORY_LENGTH
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Each row's last `length` events, newest first: items int32 [R, L], types int32 [R, L], ages int64 [R, L].

        timestamp: int64 [R], each row's moment; an age is the seconds from an event to it. Items are -1 behind the
        end of a history; L is the longest history there is, at most `length`.
        """
        counts = np.minimum(self.history_end - self.history_start, length)
        back = np.arange(int(counts.max(initial=0)))
        at = np.maximum(self.history_end[:, None] - 1 - back, 0)  # [R, L]
        there = back < counts[:, None]
        if not len(self.event_item):
            empty = np.zeros((len(counts), 0), np.int32)
            return empty, empty, empty.astype(np.int64)
        items = np.where(there, self.event_item[at], np.int32(-1))
        types = np.where(there, self.event_type[at], np.int8(OOV)).astype(np.int32)
        ages = np.where(there, timestamp[:, None] - self.event_timestamp[at], 0)
        return items, types, ages


def histories_of_rows(
    rows: Path | pa.Table,
    source: InteractionSource,
    item_ids: Sequence[str],
    *,
    days: Iterable[dt.date] | None = None,
) -> Histories:
    """The histories of rows (a file of `training_rows`, or a table with user_id and timestamp), in the rows' order.

    item_ids: of the table, in its order
    days: whose events count; None: all up to the latest row's. One day at a time is in memory as text.
    Raises FeatureInputError where columns are missing or a row has no moment.
    """
    users, user, moment = _users_of(rows)
    if days is None and len(moment):
        latest = dt.datetime.fromtimestamp(int(moment.max()), dt.UTC).date()
        days = [day for day in source.days() if day <= latest]
    events = _events(users, source, pa.array(item_ids, pa.string()), days)
    key = _key(events.user, events.timestamp)
    asked = _key(user, moment)
    end = np.searchsorted(key, asked, side="left")  # strictly before the row's second
    start = np.searchsorted(key, _key(user, np.zeros_like(moment)), side="left")
    return Histories(events.item, events.type, events.timestamp, start.astype(np.int64), end.astype(np.int64))


@dataclass(frozen=True)
class _Events:
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    type: NDArray[np.int8]
    timestamp: NDArray[np.int64]


def _users_of(rows: Path | pa.Table) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]:
    """The rows' distinct users, each row's user among them, and its moment."""
    moments, chunks = [], []
    for batch in _batches(rows):
        require_columns(batch, ("user_id", "timestamp"), "histories_of_rows")
        encoded = pc.dictionary_encode(batch.column("user_id").cast(pa.string()))
        chunks.append(encoded)
        moments.append(seconds_of_column(batch, "timestamp"))
    if not chunks:
        return pa.array([], pa.string()), np.zeros(0, np.int64), np.zeros(0, np.int64)
    column = pa.chunked_array(chunks).unify_dictionaries()
    users = column.chunk(0).dictionary
    codes = [pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return users, np.concatenate(codes).astype(np.int64), np.concatenate(moments)


def _batches(rows: Path | pa.Table) -> Iterator[pa.RecordBatch]:
    if isinstance(rows, pa.Table):
        yield from rows.select(["user_id", "timestamp"]).combine_chunks().to_batches(_BATCH_ROWS)
        return
    with pq.ParquetFile(rows) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=["user_id", "timestamp"])


def _events(users: pa.Array, source: InteractionSource, items: pa.Array, days: Iterable[dt.date] | None) -> _Events:
    """The users' events in order of user and time; events of one second in order of item and type."""
    found: list[_Events] = []
    known = set(source.days())
    for day in sorted(known if days is None else known & set(days)):
        for path in source.interaction_files([day]):
            table = _read(path)
            code = pc.index_in(table.column("user_id").cast(pa.string()), users)
            mine = pc.is_valid(code)
            table, code = table.filter(mine), code.filter(mine)
            if not len(table):
                continue
            item = pc.fill_null(pc.index_in(table.column("item_id").cast(pa.string()), items), -1)
            named = pc.fill_null(table.column("event_type").cast(pa.string()), DEFAULT_EVENT_TYPE)
            types = pc.fill_null(pc.index_in(named, _EVENT_TYPES), -1)
            found.append(
                _Events(
                    np.asarray(code, np.int32),
                    np.asarray(item, np.int32),
                    _EVENT_ROWS[np.asarray(types, np.int64)],
                    seconds_of_column(table, "timestamp"),
                )
            )
    if not found:
        return _Events(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(0, np.int64))
    user, item, kind, timestamp = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("user", "item", "type", "timestamp")
    )
    order = np.lexsort((kind, item, timestamp, user))
    return _Events(user[order], item[order], kind[order], timestamp[order])


def _read(path: Path) -> pa.Table:
    """A file's columns; without event types every event is of the default one."""
    with pq.ParquetFile(path) as file:
        there = [name for name in _COLUMNS if name in file.schema_arrow.names]
        table = file.read(columns=there)
    if "event_type" not in there:
        table = table.append_column("event_type", pa.repeat(pa.scalar(DEFAULT_EVENT_TYPE), len(table)))
    return table


def _key(user: NDArray[np.integer], timestamp: NDArray[np.int64]) -> NDArray[np.int64]:
    """User and moment as one number that sorts by both: a moment takes 33 bits, until the year 2242."""
    return (user.astype(np.int64) << 33) + timestamp
