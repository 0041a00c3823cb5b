from __future__ import annotations

import datetime as dt
import os
import shutil
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from cascade.data.contract import data_files
from services.features.files import LiveFiles, is_live_name

TABLE = pa.table({"a": [1]})
DAY = dt.date(2026, 1, 5)


def test_nothing_is_seen_before_the_file_has_its_name(tmp_path: Path) -> None:
    files = LiveFiles(tmp_path)
    name = files.new_name("interactions", DAY)
    files.write(name, TABLE)
    folder = tmp_path / "interactions" / "date=2026-01-05"
    assert data_files(folder) == []
    assert files.publish(name)
    assert data_files(folder) == [tmp_path / name]
    assert files.publish(name), "twice is once"
    assert os.listdir(folder) == [Path(name).name]


def test_a_file_that_is_nowhere_is_told(tmp_path: Path) -> None:
    files = LiveFiles(tmp_path)
    name = files.new_name("impressions", DAY)
    assert not files.publish(name)
    files.write(name, TABLE)
    files.discard(name)
    files.discard(name)
    assert not files.publish(name)


def test_temporary_files_are_found_by_age(tmp_path: Path) -> None:
    files = LiveFiles(tmp_path)
    name = files.new_name("interactions", DAY)
    files.write(name, TABLE)
    assert list(files.temporary("interactions", 60)) == []
    assert list(files.temporary("interactions", -1)) == [name]
    files.publish(name)
    assert list(files.temporary("interactions", -1)) == []
    assert list(files.temporary("impressions", -1)) == []


def test_looking_for_temporary_files_passes_over_what_is_no_day_and_a_day_that_went(tmp_path: Path) -> None:
    files = LiveFiles(tmp_path)
    names = [files.new_name("interactions", DAY + dt.timedelta(days=days)) for days in range(2)]
    for name in names:
        files.write(name, TABLE)
    (tmp_path / "interactions" / "date=copy").touch()
    found = files.temporary("interactions", -1)
    first = next(found)
    (other,) = {*names} - {first}
    shutil.rmtree(files.path(other).parent)
    assert list(found) == []


def test_looking_for_temporary_files_holds_no_list_of_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "interactions" / "date=2026-01-05"
    folder.mkdir(parents=True)
    for number in range(3000):
        (folder / f"live-{number:013d}-{'0' * 32}.parquet").touch()
    files = LiveFiles(tmp_path)
    assert list(files.temporary("interactions", -1)) == []
    tracemalloc.start()
    try:
        assert list(files.temporary("interactions", -1)) == []
        assert tracemalloc.get_traced_memory()[1] < 100_000  # a list of 3,000 takes 1 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name",
    [
        "../live-1.parquet",
        "interactions/date=2026-01-05/../live-1.parquet",
        "users.parquet",
        "interactions/live-1.parquet",
    ],
)
def test_no_other_file_can_be_named(tmp_path: Path, name: str) -> None:
    assert not is_live_name(name)
    with pytest.raises(ValueError, match="no name of a live file"):
        LiveFiles(tmp_path).publish(name)
