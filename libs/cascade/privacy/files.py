"""A user's rows in Parquet files: each file that has some is written anew without them, beside it, and renamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.data.contract import LIVE_PREFIX, day_of_folder
from cascade.files import replacing

USER, REQUEST = "user_id", "request_id"


@dataclass
class Erased:
    """rows: how many went; files: how many were written anew; days: of partitions; requests: named by the rows."""

    rows: int = 0
    files: int = 0
    days: set[date] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)


def erase_rows(folder: Path, user_id: str, alive: Callable[[], object] = lambda: None) -> Erased:
    """Remove the user's rows from every Parquet file below a folder that has a column `user_id`.

    Hidden files are searched too: a writer's temporary file becomes visible later. Live files left without a row go;
    others stay, empty. A file that cannot be read is named by its path below the folder, and left.

    alive: called before each file
    """
    found = Erased()
    for path in _parquet_files(folder):
        alive()
        try:
            table = _rows_of(path, user_id)
        except (pa.ArrowException, OSError):
            if path.exists():
                found.unreadable.append(str(path.relative_to(folder)))
            continue
        if table is None:
            continue
        mine = pc.equal(table.column(USER), user_id).combine_chunks().fill_null(False)
        found.rows += pc.sum(mine).as_py() or 0
        found.files += 1
        if (day := day_of_folder(path.parent.name)) is not None:
            found.days.add(day)
        if REQUEST in table.column_names:
            found.requests |= set(table.filter(mine).column(REQUEST).drop_null().to_pylist())
        kept = table.filter(pc.invert(mine))
        if not kept.num_rows and path.name.startswith(LIVE_PREFIX):
            path.unlink()
            continue
        with replacing(path) as beside:
            pq.write_table(kept, beside, compression="zstd")
            _sync(beside)
    return found


def _parquet_files(folder: Path) -> Iterator[Path]:
    """Whole files, and temporary ones (`.live-….parquet.part`), of the folder and all below."""
    yield from sorted(path for path in folder.rglob("*.parquet*") if path.is_file() and not path.is_symlink())


def _rows_of(path: Path, user_id: str) -> pa.Table | None:
    """The whole table, if a row of it is the user's."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if USER not in names or not pa.types.is_string(_plain(file.schema_arrow.field(USER).type)):
            return None
        if not any(_holds(batch.column(0), user_id) for batch in file.iter_batches(columns=[USER])):
            return None
    return pq.read_table(path, partitioning=None)


def _sync(path: Path) -> None:
    """Before it takes the place of rows that must not be lost."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _plain(kind: pa.DataType) -> pa.DataType:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(value) else value


def _holds(column: pa.Array, user_id: str) -> bool:
    return bool(pc.any(pc.equal(column, user_id)).as_py())
