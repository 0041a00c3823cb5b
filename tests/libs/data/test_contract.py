from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.data.contract import (
    INTERACTIONS_CONTRACT,
    ITEMS_CONTRACT,
    USERS_CONTRACT,
    Dataset,
    day_folder,
    day_of_folder,
    safe_image_path,
)
from cascade.data.errors import DatasetNotFound, UnknownDay

FIRST = date(2026, 1, 5)


def test_tables_have_the_contracts_columns_and_types(tiny_root: Path) -> None:
    dataset = Dataset(tiny_root)
    assert dataset.users().schema.equals(USERS_CONTRACT.schema)
    assert dataset.items().schema.equals(ITEMS_CONTRACT.schema)
    interactions = dataset.interactions()
    assert interactions.column_names == [*INTERACTIONS_CONTRACT.names, "date"]
    assert interactions.schema.field("date").type == pa.date32()


def test_days_are_sorted_and_selectable(tiny_root: Path) -> None:
    dataset = Dataset(tiny_root)
    days = dataset.days()
    assert days == [date(2026, 1, 5 + n) for n in range(4)]
    some = dataset.interactions([days[2], days[1]])
    assert sorted(set(some.column("date").to_pylist())) == days[1:3]
    assert some.num_rows == sum(pq.read_metadata(p).num_rows for p in dataset.interaction_files(days[1:3]))
    assert dataset.interactions([]).num_rows == 0


def test_an_unknown_day_is_refused_with_the_days_there_are(tiny_root: Path) -> None:
    with pytest.raises(UnknownDay, match=r"2026-02-01.*2026-01-05 to 2026-01-08"):
        Dataset(tiny_root).interactions([date(2026, 2, 1)])


def test_a_missing_folder_or_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="nowhere"):
        Dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFound, match=r"users\.parquet"):
        Dataset(tmp_path).users()
    assert Dataset(tmp_path).days() == []


def test_without_tables_the_interactions_name_users_and_items(folder: Path) -> None:
    dataset = Dataset(folder)
    met = dataset.interactions()
    assert dataset.absent() == {"users.parquet": [], "items.parquet": [], "interactions": []}
    for name in ("users.parquet", "items.parquet"):
        (folder / name).unlink()
    assert dataset.users().column("user_id").to_pylist() == sorted(set(met.column("user_id").to_pylist()))
    items = dataset.items()
    assert items.column("item_id").to_pylist() == sorted(set(met.column("item_id").to_pylist()))
    assert set(items.column("category_l1").to_pylist()) == {""}
    assert dataset.absent()["users.parquet"] == ["age", "gender"]
    assert len(dataset.table_digest("items.parquet")) == 64
    assert dataset.fingerprint()


def test_columns_left_out_of_interactions_are_told_and_read_as_unknown(folder: Path) -> None:
    dataset = Dataset(folder)
    whole = dataset.interactions()
    for path in dataset.interaction_files():
        pq.write_table(pq.ParquetFile(path).read(columns=["user_id", "item_id", "timestamp"]), path)
    lean = dataset.interactions()
    assert lean.column("item_id").equals(whole.column("item_id"))
    assert set(lean.column("device_type").to_pylist()) == {None}
    assert set(lean.column("event_type").to_pylist()) == {"view"}
    assert dataset.absent()["interactions"] == ["device_type", "event_type"]
    prices = dataset.items().column("price")
    table = pq.read_table(folder / "items.parquet")
    empty = table.set_column(table.schema.get_field_index("price"), "price", pa.nulls(len(prices), pa.float32()))
    pq.write_table(empty, folder / "items.parquet")
    assert dataset.absent()["items.parquet"] == ["price"]


def test_optional_columns_read_as_nulls_and_extra_ones_are_ignored(folder: Path) -> None:
    pq.write_table(pa.table({"loyalty": [3], "user_id": ["u"]}), folder / "users.parquet")
    pq.write_table(pa.table({"item_id": ["i"], "category_l1": ["c"]}), folder / "items.parquet")
    dataset = Dataset(folder)
    assert dataset.users().to_pylist() == [{"user_id": "u", "age": None, "gender": None}]
    item = dataset.items().to_pylist()[0]
    assert item["title"] == ""
    assert item["description"] == ""
    assert item["price"] is None
    assert item["image"] is None


def test_ages_from_pandas_and_dictionary_strings_are_read(folder: Path) -> None:
    ids = pa.array(["u", "v"]).dictionary_encode()
    pq.write_table(pa.table({"user_id": ids, "age": [31.0, None]}), folder / "users.parquet")
    users = Dataset(folder).users()
    assert users.column("user_id").to_pylist() == ["u", "v"]
    assert users.column("age").to_pylist() == [31, None]


def test_image_paths_stay_below_images(folder: Path) -> None:
    dataset = Dataset(folder)
    image = dataset.items().column("image")[0].as_py()
    path = dataset.image_path(image)
    assert path is not None
    assert path.is_file()
    os.symlink(folder / "users.parquet", folder / "images" / "link.jpg")
    for bad in (None, "", "../users.parquet", "/etc/hostname", "a\\b.jpg", "missing.jpg", ".", "link.jpg"):
        assert dataset.image_path(bad) is None


@given(st.lists(st.sampled_from(["..", ".", "a", "b.jpg", "", "\\", "\0"]), max_size=5), st.booleans())
def test_no_path_leaves_the_folder(parts: list[str], rooted: bool) -> None:
    images = Path("shop/images")
    found = safe_image_path(images, ("/" if rooted else "") + "/".join(parts))
    assert found is None or images.resolve() in found.parents


@given(st.dates())
def test_day_folders_carry_their_day(day: date) -> None:
    assert day_of_folder(day_folder(day)) == day


@pytest.mark.parametrize("name", ["2026-01-05", "date=2026-13-01", "date=2026-1-5", "date=", "day=2026-01-05"])
def test_other_folder_names_carry_none(name: str) -> None:
    assert day_of_folder(name) is None


def test_the_fingerprint_follows_content_alone(folder: Path, tiny_root: Path) -> None:
    dataset = Dataset(folder)
    before = dataset.fingerprint()
    assert before == Dataset(tiny_root).fingerprint()
    for path in [folder / "users.parquet", *dataset.interaction_files()]:
        os.utime(path, (0, 0))
    assert dataset.fingerprint() == before

    path = dataset.interaction_files()[0]
    table = pq.read_table(path)
    shifted = table.column("timestamp").to_pylist()
    shifted[-1] += 1
    column = table.schema.get_field_index("timestamp")
    pq.write_table(table.set_column(column, "timestamp", pa.array(shifted)), path)
    changed = dataset.fingerprint()
    assert changed != before

    pq.write_table(dataset.users().slice(1), folder / "users.parquet")
    assert dataset.fingerprint() not in (before, changed)
