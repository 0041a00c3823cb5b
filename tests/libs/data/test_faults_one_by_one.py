"""One fault at a time: each is named with its file, its column and its rows, and stops the folder as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cascade.data.errors import DatasetInvalid
from cascade.data.validation import require_valid, validate

NOW = 1_800_000_000
DAY = "interactions/date=2026-01-06"
PART = f"{DAY}/part-0.parquet"

Spoil = Callable[[Path], None]


def row(name: str, column: str, place: int, value: Any) -> Spoil:
    """Sets one value."""

    def spoil(root: Path) -> None:
        table = pq.ParquetFile(root / name).read()
        at = table.schema.get_field_index(column)
        values = table.column(column).to_pylist()
        values[place] = value
        kind = table.schema.field(at).type
        pq.write_table(table.set_column(at, pa.field(column, kind), pa.array(values, kind)), root / name)

    return spoil


def columns(name: str, change: Callable[[pa.Table], pa.Table]) -> Spoil:
    return lambda root: pq.write_table(change(pq.ParquetFile(root / name).read()), root / name)


def file(name: str, content: Callable[[bytes], bytes]) -> Spoil:
    def spoil(root: Path) -> None:
        (root / name).write_bytes(content((root / name).read_bytes()))

    return spoil


def gone(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def picture(make: Callable[[Path], object]) -> Spoil:
    """The picture of the first item is replaced."""

    def spoil(root: Path) -> None:
        path = root / "images" / pq.read_table(root / "items.parquet").column("image")[0].as_py()
        path.unlink()
        make(path)

    return spoil


def bomb(root: Path) -> None:
    """Kilobytes of file that unfold to gigabytes: one long text, named in every row."""
    users = pq.read_table(root / "users.parquet")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 1_000_000]))
    ids = pa.array([f"u{n}" for n in range(3000)])
    pq.write_table(pa.table({"user_id": ids, "gender": long}), root / "users.parquet")
    assert (root / "users.parquet").stat().st_size < 500_000 < users.nbytes * 1000


def linked(name: str) -> Spoil:
    """The file lies elsewhere, and a link stands in its place."""

    def spoil(root: Path) -> None:
        elsewhere = root.parent / "elsewhere.parquet"
        (root / name).rename(elsewhere)
        os.symlink(elsewhere, root / name)

    return spoil


def add_empty_day(root: Path) -> None:
    (root / "interactions/date=2026-01-09").mkdir()
    pq.write_table(pq.ParquetFile(root / PART).read().slice(0, 0), root / "interactions/date=2026-01-09/part-0.parquet")


ITEMS, USERS = "items.parquet", "users.parquet"
FAULTS: dict[str, tuple[Spoil, str, str | None, str, str]] = {
    "no interactions": (gone("interactions"), "interactions", None, "missing-folder", ""),
    "a day missing in between": (gone(DAY), "interactions", None, "day-gap", "2026-01-06"),
    "a day without rows": (add_empty_day, "interactions/date=2026-01-09", None, "empty-day", ""),
    "a folder of another name": (
        lambda root: (root / DAY).rename(root / "interactions/6 January"),
        "interactions",
        None,
        "folder-name",
        "6 January",
    ),
    "a table cut short": (file(ITEMS, lambda b: b[: len(b) // 2]), ITEMS, None, "unreadable", ""),
    "a part that is no Parquet": (file(PART, lambda b: b"id,item\n1,2\n"), PART, None, "unreadable", ""),
    "a table without rows": (columns(USERS, lambda t: t.slice(0, 0)), USERS, None, "empty-table", ""),
    "a column missing": (
        columns(PART, lambda t: t.drop_columns(["timestamp"])),
        PART,
        "timestamp",
        "missing-column",
        "",
    ),
    "a column twice": (
        columns(USERS, lambda t: t.append_column("age", t.column("age"))),
        USERS,
        "age",
        "duplicate-column",
        "",
    ),
    "another type": (
        columns(
            ITEMS, lambda t: t.set_column(t.schema.get_field_index("price"), "price", pa.array(["1"] * t.num_rows))
        ),
        ITEMS,
        "price",
        "wrong-type",
        "",
    ),
    "a null id": (row(PART, "user_id", 2, None), PART, "user_id", "null", "row 2"),
    "an empty id": (row(PART, "user_id", 3, ""), PART, "user_id", "empty", "row 3"),
    "an id too long": (row(USERS, "user_id", 1, "u" * 129), USERS, "user_id", "too-long", "row 1"),
    "a control character": (row(USERS, "user_id", 0, "u\x1b[2J"), USERS, "user_id", "control-character", "row 0"),
    "a control character of Latin-1": (
        row(USERS, "user_id", 0, "u\x85"),
        USERS,
        "user_id",
        "control-character",
        "row 0",
    ),
    "an id that is not normalised": (
        row(USERS, "user_id", 4, "cafe\u0301"),
        USERS,
        "user_id",
        "not-normalised",
        "row 4",
    ),
    "the same id twice": (row(USERS, "user_id", 5, "same"), USERS, "user_id", "duplicate", "'same' in rows 5, 6"),
    "an item of no catalog": (row(PART, "item_id", 7, "nowhere"), PART, "item_id", "unknown-item", "row 7: 'nowhere'"),
    "a negative price": (row(ITEMS, "price", 3, -0.01), ITEMS, "price", "negative", "row 3"),
    "a price that is none": (row(ITEMS, "price", 3, float("nan")), ITEMS, "price", "not-a-number", "row 3"),
    "an age of 200": (row(USERS, "age", 2, 200), USERS, "age", "out-of-range", "row 2"),
    "a category that is empty": (row(ITEMS, "category_l1", 1, ""), ITEMS, "category_l1", "empty", "row 1"),
    "an unknown device": (
        row(PART, "device_type", 0, "fridge"),
        PART,
        "device_type",
        "unknown-device",
        "row 0: 'fridge'",
    ),
    "an event without type": (row(PART, "event_type", 0, ""), PART, "event_type", "empty", "row 0"),
    "another day's timestamp": (row(PART, "timestamp", 1, 0), PART, "timestamp", "other-day", "row 1: 0"),
    "milliseconds": (row(PART, "timestamp", 1, 1_767_690_000_000), PART, "timestamp", "wrong-unit", "row 1"),
    "a picture that is none": (
        picture(lambda path: path.write_text("GIF89a but no")),
        ITEMS,
        "image",
        "not-a-picture",
        "row 0",
    ),
    "a picture that unfolds to 81 million pixels": (
        picture(lambda path: Image.new("1", (9000, 9000)).save(path, "PNG")),
        ITEMS,
        "image",
        "too-large",
        "row 0",
    ),
    "a picture that is missing": (picture(lambda path: None), ITEMS, "image", "missing-image", "row 0"),
    "a picture outside": (row(ITEMS, "image", 2, "../../etc/passwd"), ITEMS, "image", "outside-folder", "row 2"),
    "a column that unfolds to gigabytes": (bomb, USERS, "gender", "too-large", "row 0"),
    "a table outside": (linked(USERS), USERS, None, "outside-folder", ""),
    "a part outside": (linked(PART), PART, None, "outside-folder", ""),
}


def prepared(what: str, root: Path) -> None:
    if what == "the same id twice":
        row(USERS, "user_id", 6, "same")(root)
    FAULTS[what][0](root)


@pytest.mark.parametrize("what", FAULTS)
def test_the_fault_is_named_and_nothing_is_taken_over(folder: Path, what: str) -> None:
    prepared(what, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    _, name, column, rule, shown = FAULTS[what]
    found = {(fault.file, fault.column, fault.rule): fault for fault in validate(folder, now=NOW)}
    assert (name, column, rule) in found, list(found)
    fault = found[name, column, rule]
    assert shown in ", ".join(fault.rows)
    assert fault.message
    with pytest.raises(DatasetInvalid) as refused:
        require_valid(folder, now=NOW)
    assert str(fault) in str(refused.value)
    assert str(folder.parent) not in str(fault), "faults name what lies in the folder, not where it lies"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_timestamp_of_the_future_is_named(folder: Path) -> None:
    start = 1_767_657_600  # 2026-01-06
    row(PART, "timestamp", 0, start + 86_399)(folder)
    faults = [fault for fault in validate(folder, now=start + 86_398) if fault.file == PART]
    assert [(fault.rule, fault.rows) for fault in faults] == [("in-the-future", (f"row 0: {start + 86_399}",))]


def test_there_are_more_than_twenty_kinds() -> None:
    assert len({(rule, column or "") for _, _, column, rule, _ in FAULTS.values()}) >= 20
