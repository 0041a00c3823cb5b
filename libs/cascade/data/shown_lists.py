"""Lists as live traffic logged them: what was shown by which versions, and of a sample what the models read.

The columns beyond the data contract that the features worker writes are read here; a shop's own impressions and files
of earlier releases have none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.contract import IMPRESSIONS, LIVE_PREFIX, data_files, day_folder

SERVED = pa.field(
    "served",
    pa.struct(
        [
            ("age", pa.float64()),
            ("gender", pa.string()),
            ("top_category", pa.string()),
            ("recent", pa.int32()),
        ]
    ),
)
"""A user's features as the models were served with them; null where the list is none of the sample. recent: how many of
the latest interactions."""

EVENT_ID = pa.field("event_id", pa.string(), nullable=False)
SCORE = pa.field("score", pa.float64())
VERSIONS = pa.field("versions", pa.string(), nullable=False)

_COLUMNS = pa.schema(
    [
        EVENT_ID,
        ("user_id", pa.string()),
        ("timestamp", pa.int64()),
        ("device_type", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int32()),
        ("propensity", pa.float64()),
        SCORE,
        VERSIONS,
        SERVED,
    ]
)
_NEEDED = {field.name for field in _COLUMNS} - {SERVED.name}


@dataclass(frozen=True)
class ShownLists:
    """N lists, each with the items of its first W places.

    lists: a row a list: user_id, timestamp, device_type, versions (JSON), served
    item_ids: [N, W] str; None where a list is shorter
    score: float64 [N, W], NaN where there is none
    certain: bool [N], whether no chance put any of these items where it is
    """

    lists: pa.Table
    item_ids: NDArray[np.object_]
    score: NDArray[np.float64]
    certain: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lists)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.integer]) -> ShownLists:
        """Some of the lists: a mask, or positions."""
        at = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return ShownLists(self.lists.take(pa.array(at)), self.item_ids[at], self.score[at], self.certain[at])

    @property
    def is_sampled(self) -> NDArray[np.bool_]:
        """bool [N], whether it is known what the models were served with."""
        return np.asarray(pc.is_valid(self.lists.column(SERVED.name)), bool)

    @property
    def timestamp(self) -> NDArray[np.int64]:
        """UTC seconds, int64 [N]."""
        return np.asarray(self.lists.column("timestamp"), np.int64)


def shown_lists(dataset: Path, start: int, end: int, places: int) -> ShownLists:
    """The lists of live traffic shown from `start` until before `end` (UTC seconds), their first `places` items."""
    days = {datetime.fromtimestamp(at, UTC).date() for at in (start, max(start, end - 1))}
    first, last = min(days), max(days)
    parts = []
    for number in range((last - first).days + 1):
        parts += _live_rows(dataset, first + timedelta(days=number), start, end)
    table = pa.concat_tables(parts) if parts else _COLUMNS.empty_table()
    return _by_list(table.filter(pc.less(table.column("position"), places)), places)


def _live_rows(dataset: Path, day: date, start: int, end: int) -> list[pa.Table]:
    found = []
    for path in data_files(dataset / IMPRESSIONS / day_folder(day)):
        if not path.name.startswith(LIVE_PREFIX):
            continue
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            if not there >= _NEEDED:
                continue
            table = file.read(columns=[name for name in _COLUMNS.names if name in there])
        if SERVED.name not in there:
            table = table.append_column(SERVED, pa.nulls(len(table), SERVED.type))
        moment = table.column("timestamp")
        inside = pc.and_(pc.greater_equal(moment, start), pc.less(moment, end))
        found.append(table.select(_COLUMNS.names).cast(_COLUMNS).filter(inside))
    return found


def _by_list(table: pa.Table, places: int) -> ShownLists:
    codes = pc.dictionary_encode(table.column(EVENT_ID.name)).combine_chunks()
    if isinstance(codes, pa.ChunkedArray):  # of a table without rows
        codes = pa.array([], pa.string()).dictionary_encode()
    at = np.asarray(codes.indices, np.int64)
    count = len(codes.dictionary)
    _, first = np.unique(at, return_index=True)
    position = np.asarray(table.column("position"), np.int64)
    items = np.full((count, places), None, object)
    score = np.full((count, places), np.nan)
    certain = np.ones(count, bool)
    items[at, position] = table.column("item_id").to_pylist()
    score[at, position] = np.asarray(pc.fill_null(table.column(SCORE.name), float("nan")), np.float64)
    np.logical_and.at(certain, at, np.asarray(table.column("propensity"), np.float64) >= 1.0)
    columns = ["user_id", "timestamp", "device_type", VERSIONS.name, SERVED.name]
    return ShownLists(table.select(columns).take(pa.array(first)), items, score, certain)
