from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cascade.data.contract import Dataset
from cascade.data.errors import DatasetInvalid
from cascade.data.validation import Fault, require_valid, validate
from cascade.data.validation.faults import Findings

DAY = "interactions/date=2026-01-0{}"
NOW = 1_800_000_000


def change(path: Path, **columns: Callable[[list[Any]], list[Any]] | pa.Array) -> None:
    """Rewrites columns of a Parquet file; a function changes the values, an array replaces the column."""
    table = pq.ParquetFile(path).read()
    for name, new in columns.items():
        place = table.schema.get_field_index(name)
        old = table.schema.field(name)
        array = new if isinstance(new, pa.Array) else pa.array(new(table.column(name).to_pylist()), old.type)
        table = table.set_column(place, pa.field(name, array.type), array)
    pq.write_table(table, path)


def put(**at: Any) -> Callable[[list[Any]], list[Any]]:
    """put(r3=x): a change that sets row 3 to x."""

    def apply(values: list[Any]) -> list[Any]:
        for key, value in at.items():
            values[int(key[1:])] = value
        return values

    return apply


def part(folder: Path, day: int) -> Path:
    return folder / DAY.format(day) / "part-0.parquet"


def found(folder: Path) -> dict[tuple[str, str | None, str], Fault]:
    return {(f.file, f.column, f.rule): f for f in validate(folder, now=NOW)}


def test_a_generated_folder_is_sound(tiny_root: Path) -> None:
    assert validate(tiny_root) == []
    assert isinstance(require_valid(tiny_root), Dataset)


def test_every_one_of_many_faults_in_one_folder_is_named(folder: Path) -> None:
    items, users = folder / "items.parquet", folder / "users.parquet"
    images = [str(name) for name in pq.read_table(items).column("image").to_pylist()]
    first_id = pq.read_table(items).column("item_id")[0].as_py()
    change(users, user_id=put(r3="x" * 200, r4="x\x07", r7=None), age=put(r5=-4, r6=200))
    change(
        items,
        item_id=put(r1=first_id),
        price=put(r2=-1.0, r3=float("nan")),
        category_l1=put(r4=None, r5=""),
        image=put(r6="../users.parquet", r7="nowhere.jpg"),
        gender=pa.array([1] * pq.read_metadata(items).num_rows),
    )
    (folder / "images" / images[8]).write_bytes(b"no picture")
    whole = (folder / "images" / images[9]).read_bytes()
    (folder / "images" / images[9]).write_bytes(whole[: len(whole) // 2])
    Image.new("1", (9000, 9000)).save(folder / "images" / "bomb.png")
    (folder / "images" / images[10]).unlink()
    os.rename(folder / "images" / "bomb.png", folder / "images" / images[10])
    change(
        part(folder, 5),
        item_id=put(r0="unknown"),
        device_type=put(r1="fridge", r2=None),
        timestamp=put(r3=0),
        event_type=put(r4="", r5=None),
        user_id=put(r6=""),
    )
    change(part(folder, 6), timestamp=lambda values: [1000 * value for value in values])
    part(folder, 7).write_bytes(part(folder, 7).read_bytes()[:-50])
    shutil.copytree(folder / DAY.format(5), folder / "interactions" / "january")
    (folder / "interactions" / "date=2026-01-10").mkdir()
    shutil.copy(part(folder, 5), folder / "interactions" / "stray.parquet")
    table = pq.ParquetFile(part(folder, 8)).read().drop_columns(["timestamp"])
    pq.write_table(table, part(folder, 8))

    faults = found(folder)
    first, second = DAY.format(5) + "/part-0.parquet", DAY.format(6) + "/part-0.parquet"
    # The item whose id now stands twice left its own id behind in other days, or not, by the shop's seed.
    told = {key for key in faults if key[2] != "unknown-item" or key[0] == first}
    assert told == {
        ("users.parquet", "user_id", "too-long"),
        ("users.parquet", "user_id", "control-character"),
        ("users.parquet", "user_id", "null"),
        ("users.parquet", "age", "out-of-range"),
        ("items.parquet", "item_id", "duplicate"),
        ("items.parquet", "price", "negative"),
        ("items.parquet", "price", "not-a-number"),
        ("items.parquet", "category_l1", "null"),
        ("items.parquet", "category_l1", "empty"),
        ("items.parquet", "gender", "wrong-type"),
        ("items.parquet", "image", "outside-folder"),
        ("items.parquet", "image", "missing-image"),
        ("items.parquet", "image", "not-a-picture"),
        ("items.parquet", "image", "too-large"),
        (first, "item_id", "unknown-item"),
        (first, "device_type", "unknown-device"),
        (first, "timestamp", "other-day"),
        (first, "event_type", "empty"),
        (first, "event_type", "null"),
        (first, "user_id", "empty"),
        (second, "timestamp", "wrong-unit"),
        (DAY.format(7) + "/part-0.parquet", None, "unreadable"),
        (DAY.format(8) + "/part-0.parquet", "timestamp", "missing-column"),
        ("interactions", None, "folder-name"),
        ("interactions", None, "day-gap"),
        ("interactions/date=2026-01-10", None, "empty-day"),
    }
    assert faults["users.parquet", "age", "out-of-range"].rows == ("row 5: -4.0", "row 6: 200.0")
    assert faults["items.parquet", "image", "not-a-picture"].count == 2
    assert faults["interactions", None, "folder-name"].rows == ("'january'", "'stray.parquet'")
    assert faults["interactions", None, "day-gap"].rows == ("2026-01-09",)
    assert faults["items.parquet", "item_id", "duplicate"].rows == (f"{first_id!r} in rows 0, 1",)

    with pytest.raises(DatasetInvalid) as refused:
        require_valid(folder, now=NOW)
    for fault in refused.value.faults:
        assert fault.message in str(refused.value)


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
def test_a_corrupt_or_empty_table_is_named(folder: Path, name: str) -> None:
    whole = pq.read_table(folder / name)
    (folder / name).write_bytes(b"PAR1 and nothing else")
    assert (name, None, "unreadable") in found(folder)
    pq.write_table(whole.slice(0, 0), folder / name)
    assert (name, None, "empty-table") in found(folder)


def test_missing_folders_are_named(tmp_path: Path, folder: Path) -> None:
    assert [fault.rule for fault in validate(tmp_path / "nowhere")] == ["missing-folder"]
    shutil.rmtree(folder / "images")
    shutil.rmtree(folder / "interactions")
    faults = found(folder)
    missing = faults["items.parquet", "image", "missing-image"]
    assert missing.count == 120
    assert len(missing.rows) == 5
    assert "and 115 more" in str(missing)
    assert ("interactions", None, "missing-folder") in faults
    (folder / "interactions").mkdir()
    assert ("interactions", None, "no-day") in found(folder)


def test_a_timestamp_after_now_lies_in_the_future(folder: Path) -> None:
    stamps = Dataset(folder).interactions([date(2026, 1, 8)]).column("timestamp").to_pylist()
    faults = validate(folder, now=stamps[-3])
    assert [(f.column, f.rule, f.count) for f in faults] == [
        ("timestamp", "in-the-future", sum(s > stamps[-3] for s in stamps))
    ]


def test_users_who_are_not_in_the_table_are_allowed(folder: Path) -> None:
    change(part(folder, 5), user_id=put(r0="a guest"))
    assert validate(folder) == []


def test_extra_columns_and_absent_optional_ones_are_allowed(folder: Path) -> None:
    items = pq.read_table(folder / "items.parquet")
    lean = items.select(["category_l1", "item_id"]).append_column("stock", pa.array([1] * items.num_rows))
    pq.write_table(lean, folder / "items.parquet")
    assert validate(folder) == []


def test_ids_and_timestamps_alone_are_a_shop(folder: Path) -> None:
    for day in Dataset(folder).interaction_files():
        pq.write_table(pq.ParquetFile(day).read(columns=["user_id", "item_id", "timestamp"]), day)
    for name, key in (("users.parquet", "user_id"), ("items.parquet", "item_id")):
        pq.write_table(pq.read_table(folder / name, columns=[key]), folder / name)
    assert validate(folder) == []
    for name in ("users.parquet", "items.parquet"):
        (folder / name).unlink()
    assert validate(folder) == []


def test_days_between_may_be_absent_where_one_asks_for_it(folder: Path) -> None:
    shutil.rmtree(folder / DAY.format(6))
    assert ("interactions", None, "day-gap") in found(folder)
    assert validate(folder, gaps=True) == []


def test_text_that_is_not_utf8_is_named(folder: Path) -> None:
    users = pq.read_table(folder / "users.parquet")
    raw = [b"user-\xff\xfe", *(v.encode() for v in users.column("user_id").to_pylist()[1:])]
    broken = pa.array(raw, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"user_id": broken}), folder / "users.parquet")
    assert found(folder)["users.parquet", "user_id", "not-utf-8"].rows == ("row 0",)


def test_impressions_keep_their_rules_where_there_are_some(folder: Path) -> None:
    interactions = Dataset(folder).interactions([date(2026, 1, 5)]).slice(0, 3)
    impressions = pa.table(
        {
            "request_id": ["r"] * 3,
            **{name: interactions.column(name) for name in ("user_id", "timestamp", "device_type", "item_id")},
            "position": [0, 1, -2],
            "propensity": [0.5, 1.5, 0.1],
            "clicked": [True, False, False],
        }
    )
    path = folder / "impressions" / "date=2026-01-05" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(impressions, path)
    assert {(column, rule) for _, column, rule in found(folder)} == {
        ("position", "out-of-range"),
        ("propensity", "out-of-range"),
    }


def test_a_link_out_of_the_folder_is_outside(folder: Path) -> None:
    os.symlink(folder / "users.parquet", folder / "images" / "link.jpg")
    change(folder / "items.parquet", image=put(r0="link.jpg", r1="/etc/hostname", r2=""))
    faults = found(folder)
    assert faults["items.parquet", "image", "outside-folder"].count == 2
    assert faults["items.parquet", "image", "empty"].rows == ("row 2: ''",)


def test_faults_of_one_rule_in_several_batches_become_one() -> None:
    findings = Findings()
    for offset in (0, 10):
        values = pa.array(range(4))
        bad = values.to_numpy() >= 0
        findings.add_rows("f", "c", "rule", "message", bad, values, offset)
    (fault,) = findings.faults()
    assert fault.count == 8
    assert fault.rows == ("row 0: 0", "row 1: 1", "row 2: 2", "row 3: 3", "row 10: 0")
