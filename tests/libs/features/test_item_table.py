from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cascade.features.errors import (
    FeatureFileCorruptedError,
    FeatureFileMissingError,
    FeatureFormatError,
    FeatureInputError,
)
from cascade.features.files import read_json, write_json
from cascade.features.item_table import ItemTable
from cascade.features.transforms import ItemTransform


def test_positions(item_table: ItemTable) -> None:
    asked = ["i3", "unheard of", "i1", "i3"]
    for form in (asked, pa.array(asked), pa.chunked_array([asked[:1], asked[1:]])):
        positions = item_table.positions(form)
        assert positions.dtype == np.int32
        assert positions.tolist() == [2, -1, 0, 2]
    assert item_table.positions([]).tolist() == []


def test_ids_are_those_at_the_positions(item_table: ItemTable) -> None:
    assert item_table.ids(np.array([2, 0], np.int32)) == ["i3", "i1"]
    assert item_table.ids(np.array([], np.int32)) == []
    everything = item_table.ids(np.arange(len(item_table)))
    assert everything == item_table.item_ids
    assert all(type(item) is str for item in everything)


def test_rows_are_the_transforms(item_table: ItemTable, item_transform: ItemTransform, items: pa.Table) -> None:
    assert (item_table.encoded.categorical == item_transform.transform(items).categorical).all()
    assert (item_table.encoded.continuous == item_transform.transform(items).continuous).all()
    assert len(item_table) == len(items)


@pytest.mark.parametrize("mmap", [False, True])
def test_save_load(item_table: ItemTable, tmp_path: Path, mmap: bool) -> None:
    item_table.save(tmp_path)
    loaded = ItemTable.load(tmp_path, mmap=mmap)
    assert loaded.item_ids == item_table.item_ids
    assert loaded.fingerprint == item_table.fingerprint
    for name in ("categorical", "continuous", "image", "text"):
        assert (getattr(loaded, name) == getattr(item_table, name)).all()
    assert isinstance(loaded.image, np.memmap) == mmap


def test_an_empty_table(item_table: ItemTable, tmp_path: Path) -> None:
    empty = ItemTable([], *(getattr(item_table, name)[:0] for name in ("categorical", "continuous", "image", "text")))
    empty.save(tmp_path)
    assert len(ItemTable.load(tmp_path)) == 0
    assert empty.positions(["i1"]).tolist() == [-1]


def test_fingerprint_follows_content_and_order(item_table: ItemTable) -> None:
    image = item_table.image.copy()
    image[1, 2] += 1
    assert replace(item_table, image=image).fingerprint != item_table.fingerprint
    assert replace(item_table, item_ids=["i2", "i1", "i3", "i4"]).fingerprint != item_table.fingerprint
    assert replace(item_table, image=item_table.image.copy()).fingerprint == item_table.fingerprint


def test_faulty_tables_are_refused(item_table: ItemTable) -> None:
    with pytest.raises(FeatureInputError, match="first 'i1'"):
        replace(item_table, item_ids=["i1", "i1", "i2", "i3"])
    with pytest.raises(FeatureInputError, match=r"image is float32 \(3, 64\)"):
        replace(item_table, image=item_table.image[:3])
    with pytest.raises(FeatureInputError, match="text is float64"):
        replace(item_table, text=item_table.text.astype(np.float64))
    text = item_table.text.copy()
    text[2, 5] = np.nan
    with pytest.raises(FeatureInputError, match="first for item 'i3'"):
        replace(item_table, text=text)


def test_load_refuses_altered_parts(item_table: ItemTable, tmp_path: Path) -> None:
    with pytest.raises(FeatureFileMissingError):
        ItemTable.load(tmp_path)
    item_table.save(tmp_path)
    image = item_table.image.copy()
    image[0, 0] += 1
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(FeatureFileCorruptedError, match="fingerprint"):
        ItemTable.load(tmp_path)
    np.save(tmp_path / "image.npy", image[:2])
    with pytest.raises(FeatureFileCorruptedError, match=r"expected float32 \(4, 64\)"):
        ItemTable.load(tmp_path)
    (tmp_path / "image.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(FeatureFileCorruptedError, match="not a readable"):
        ItemTable.load(tmp_path)
    (tmp_path / "image.npy").unlink()
    with pytest.raises(FeatureFileMissingError, match=r"image\.npy"):
        ItemTable.load(tmp_path)
    (tmp_path / "item_ids.parquet").write_bytes(b"PAR1")
    with pytest.raises(FeatureFileCorruptedError, match="item ids"):
        ItemTable.load(tmp_path)


def test_load_refuses_a_newer_format(item_table: ItemTable, tmp_path: Path) -> None:
    item_table.save(tmp_path)
    path = tmp_path / "table.json"
    write_json(path, {**read_json(path, "item-table"), "format": 99})
    with pytest.raises(FeatureFormatError, match="99 is newer"):
        ItemTable.load(tmp_path)
