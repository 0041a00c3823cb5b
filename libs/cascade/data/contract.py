"""The data contract: what a dataset folder holds, and a reader for folders that keep it.

`Dataset` reads; it does not check. `cascade.data.validation.require_valid` checks, and hands out a `Dataset`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.data.errors import DatasetNotFound, UnknownDay
from cascade.features.spec import DEFAULT_EVENT_TYPE
from cascade.files import sha256_of_file

USERS = "users.parquet"
ITEMS = "items.parquet"
IMAGES = "images"
INTERACTIONS = "interactions"
IMPRESSIONS = "impressions"
MAX_ID_LENGTH = 128
"""Characters an id may have."""

LIVE_PREFIX = "live-"
"""How the names of files begin that live traffic left. They are read like any other, and are no part of the base."""

_DAY_FOLDER = re.compile(r"date=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Column:
    """One column of a table of the contract.

    required: the column has to be there (a missing optional one reads as nulls, or as `Dataset` says)
    nullable: its values may be null where it is there
    """

    name: str
    type: pa.DataType
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True)
class TableContract:
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


def _optional(name: str, kind: pa.DataType) -> Column:
    return Column(name, kind, required=False, nullable=True)


USERS_CONTRACT = TableContract(
    (
        Column("user_id", pa.string()),
        _optional("age", pa.int32()),
        _optional("gender", pa.string()),
    )
)
ITEMS_CONTRACT = TableContract(
    (
        Column("item_id", pa.string()),
        _optional("title", pa.string()),
        _optional("description", pa.string()),
        Column("category_l1", pa.string(), required=False),
        _optional("category_l2", pa.string()),
        _optional("price", pa.float32()),
        _optional("gender", pa.string()),
        _optional("image", pa.string()),
    )
)
INTERACTIONS_CONTRACT = TableContract(
    (
        Column("user_id", pa.string()),
        Column("item_id", pa.string()),
        Column("timestamp", pa.int64()),
        _optional("device_type", pa.string()),
        Column("event_type", pa.string(), required=False),
    )
)
_DATED_INTERACTIONS = INTERACTIONS_CONTRACT.schema.append(pa.field("date", pa.date32(), nullable=False))
IMPRESSIONS_CONTRACT = TableContract(
    (
        Column("request_id", pa.string()),
        Column("user_id", pa.string()),
        Column("timestamp", pa.int64()),
        Column("device_type", pa.string(), nullable=True),
        Column("item_id", pa.string()),
        Column("position", pa.int32()),
        Column("propensity", pa.float64()),
        Column("clicked", pa.bool_()),
    )
)


def day_of_folder(name: str) -> date | None:
    """The day a folder `date=YYYY-MM-DD` stands for; None if its name is not of that form."""
    match = _DAY_FOLDER.fullmatch(name)
    if match is None:
        return None
    try:
        return date.fromisoformat(match.group(1))
    except ValueError:
        return None


def day_folder(day: date) -> str:
    return f"date={day.isoformat()}"


def data_files(folder: Path, *, base_only: bool = False) -> list[Path]:
    """The Parquet files of a partition, sorted; hidden and temporary ones left out.

    base_only: leave out what live traffic wrote, too
    """
    aside = (".", "_", LIVE_PREFIX) if base_only else (".", "_")
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith(aside))


def conform(table: pa.Table, contract: TableContract) -> pa.Table:
    """The contract's columns in the contract's order and types, extra ones gone.

    A missing column reads as nulls; one whose values are never null as empty text, `event_type` as the default type.
    """
    arrays = []
    for column in contract.columns:
        if column.name in table.column_names:
            # Unsafe: an export from pandas holds ages with gaps as floats, and prices as float64.
            arrays.append(table.column(column.name).cast(column.type, safe=False))
        elif column.nullable:
            arrays.append(pa.nulls(table.num_rows, column.type))
        else:
            value = DEFAULT_EVENT_TYPE if column.name == "event_type" else ""
            arrays.append(pa.repeat(pa.scalar(value, column.type), table.num_rows))
    return pa.table(arrays, schema=contract.schema)


def safe_image_path(images: Path, image: str) -> Path | None:
    """The file `image` names below `images`; None for a path that leaves the folder, by `..`, root or link."""
    if not image or "\\" in image or "\0" in image or Path(image).is_absolute():
        return None
    base = images.resolve()
    path = (base / image).resolve()
    return path if path.is_relative_to(base) and path != base else None


class Dataset:
    """A dataset folder that keeps the contract.

    Tables come with exactly the contract's columns. Missing titles, descriptions and categories read as empty strings,
    a missing event type as `view`. Where there is no users.parquet or items.parquet, the ids of the interactions are
    the table.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetNotFound(f"{self.root} is not a folder; give one that keeps docs/data-contract.md")

    def __repr__(self) -> str:
        return f"Dataset({str(self.root)!r})"

    def users(self) -> pa.Table:
        return self._table(USERS, USERS_CONTRACT)

    def items(self) -> pa.Table:
        table = self._table(ITEMS, ITEMS_CONTRACT)
        for name in ("title", "description"):
            position = table.schema.get_field_index(name)
            table = table.set_column(position, table.schema.field(name), table.column(name).fill_null(""))
        return table

    def days(self, *, base_only: bool = False) -> list[date]:
        """The days that have interactions, in order.

        base_only: without the days that hold live traffic alone, which a full training is not split by
        """
        folder = self.root / INTERACTIONS
        if not folder.is_dir():
            return []
        days = (day_of_folder(p.name) for p in folder.iterdir() if p.is_dir() and data_files(p, base_only=base_only))
        return sorted(day for day in days if day is not None)

    def interaction_files(self, days: Iterable[date] | None = None) -> list[Path]:
        """Parquet files of these days (all by default), in the days' order."""
        known = self.days()
        wanted = known if days is None else sorted(set(days))
        missing = sorted(set(wanted) - set(known))
        if missing:
            span = f"{known[0]} to {known[-1]}" if known else "no day at all"
            raise UnknownDay(f"{self.root} has no interactions of {missing[0]}; it has {span}")
        return [f for day in wanted for f in data_files(self.root / INTERACTIONS / day_folder(day))]

    def interactions(self, days: Iterable[date] | None = None) -> pa.Table:
        """Interactions of these days (all by default) with a `date` column (date32) after the contract's."""
        parts = list(self.interaction_parts(days))
        return pa.concat_tables(parts) if parts else _DATED_INTERACTIONS.empty_table()

    def interaction_parts(self, days: Iterable[date] | None = None) -> Iterator[pa.Table]:
        """`interactions` file by file, for those who need not hold all of them at once."""
        for path in self.interaction_files(days):
            part = conform(_read(path, INTERACTIONS_CONTRACT), INTERACTIONS_CONTRACT)
            day = day_of_folder(path.parent.name)
            stamps = pa.repeat(pa.scalar(day, pa.date32()), part.num_rows)
            yield pa.table([*part.columns, stamps], schema=_DATED_INTERACTIONS)

    def impression_days(self) -> list[date]:
        """The days that have impressions, in order."""
        folder = self.root / IMPRESSIONS
        if not folder.is_dir():
            return []
        days = (day_of_folder(p.name) for p in folder.iterdir() if p.is_dir() and data_files(p))
        return sorted(day for day in days if day is not None)

    def impressions(self, days: Iterable[date] | None = None) -> pa.Table:
        """Impressions of these days (all that have some by default)."""
        wanted = self.impression_days() if days is None else sorted(set(days) & set(self.impression_days()))
        files = [f for day in wanted for f in data_files(self.root / IMPRESSIONS / day_folder(day))]
        parts = [conform(_read(path, IMPRESSIONS_CONTRACT), IMPRESSIONS_CONTRACT) for path in files]
        return pa.concat_tables(parts) if parts else IMPRESSIONS_CONTRACT.schema.empty_table()

    def image_path(self, image: str | None) -> Path | None:
        """The picture's file; None if there is no such file below images/."""
        if image is None:
            return None
        path = safe_image_path(self.root / IMAGES, image)
        return path if path is not None and path.is_file() else None

    def table_digest(self, name: str) -> str:
        """Hex sha256 of users.parquet or items.parquet; of nothing where the interactions stand for it."""
        path = self.root / name
        return sha256_of_file(path) if path.is_file() else hashlib.sha256().hexdigest()

    def fingerprint(self, *, until: date | None = None, items: str | None = None) -> str:
        """Hex digest of the content, without what live traffic wrote.

        Users and items are hashed whole; a partition by its files' names, sizes and Parquet footers, which
        hold the statistics of every column chunk; 13 million rows would take minutes to hash.

        until: leave later days out
        items: take this for the digest of items.parquet (`table_digest`), instead of what lies there now
        """
        digest = hashlib.sha256()
        for name in (USERS, ITEMS):
            digest.update(f"{name}\0".encode())
            table = items if name == ITEMS and items is not None else self.table_digest(name)
            digest.update(bytes.fromhex(table))
        days = [day for day in self.days(base_only=True) if until is None or day <= until]
        folders = [self.root / INTERACTIONS / day_folder(day) for day in days]
        for path in (file for folder in folders for file in data_files(folder, base_only=True)):
            digest.update(f"{path.relative_to(self.root).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(_footer(path))
        return digest.hexdigest()

    def absent(self) -> dict[str, list[str]]:
        """What the folder does without: table → its optional columns that are not there, or that hold nulls alone.

        A table that is not there lacks all of them. Interactions are judged by all files' footers: a column that one
        of them has is there.
        """
        return {
            USERS: self._absent_columns([self.root / USERS], USERS_CONTRACT),
            ITEMS: self._absent_columns([self.root / ITEMS], ITEMS_CONTRACT),
            INTERACTIONS: self._absent_columns(self.interaction_files(), INTERACTIONS_CONTRACT),
        }

    def _absent_columns(self, files: list[Path], contract: TableContract) -> list[str]:
        lacking = {column.name for column in contract.columns if not column.required}
        for path in (file for file in files if file.is_file()):
            lacking -= _filled_columns(pq.read_metadata(path))
            if not lacking:
                break
        return [name for name in contract.names if name in lacking]

    def _table(self, name: str, contract: TableContract) -> pa.Table:
        path = self.root / name
        if path.is_file():
            return conform(_read(path, contract), contract)
        key = contract.names[0]
        found = [pc.unique(_read(file, INTERACTIONS_CONTRACT).column(key)) for file in self.interaction_files()]
        if not found:
            raise DatasetNotFound(
                f"{path} does not exist, nor do interactions that could stand for it; "
                "see docs/data-contract.md for what a dataset folder holds"
            )
        ids = pc.unique(pa.chunked_array(found).cast(pa.string()))
        return conform(pa.table({key: ids.take(pc.sort_indices(ids))}), contract)


def _read(path: Path, contract: TableContract) -> pa.Table:
    with pq.ParquetFile(path) as file:  # a file alone: the folder's date= is no column of it
        present = set(file.schema_arrow.names)
        return file.read(columns=[name for name in contract.names if name in present])


def _filled_columns(metadata: pq.FileMetaData) -> set[str]:
    """The columns of a Parquet file that hold something, as far as its footer can tell."""
    nulls: dict[str, int | None] = {}
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            known = chunk.statistics.null_count if chunk.statistics and chunk.statistics.has_null_count else None
            before = nulls.get(chunk.path_in_schema, 0)
            nulls[chunk.path_in_schema] = None if known is None or before is None else before + known
    return {name for name, count in nulls.items() if count is None or count < metadata.num_rows}


def _footer(path: Path) -> bytes:
    """The Parquet footer: its length stands in the eight bytes at the end, before the magic word."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, 2)
        return file.read(length)
