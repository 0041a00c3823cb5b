"""What live traffic wrote is read like any other file, and is no part of the base data."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cascade.data.contract import Dataset
from cascade.data.generator import Shop
from cascade.data.validation import validate

LATER = date(2026, 3, 1)


def write_live(folder: Path, day: date, item: str) -> None:
    path = folder / "interactions" / f"date={day}" / "live-1.parquet"
    path.parent.mkdir(exist_ok=True)
    second = (day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400
    row = {
        "user_id": ["u"],
        "item_id": [item],
        "timestamp": [second],
        "device_type": ["tablet"],
        "event_type": ["view"],
    }
    pq.write_table(pa.table({**row, "event_id": ["1-0"]}), path)


def test_live_days_are_days_but_none_of_the_base(folder: Path) -> None:
    dataset = Dataset(folder)
    days, fingerprint = dataset.days(), dataset.fingerprint()

    write_live(folder, LATER, "i")
    write_live(folder, days[0], "i")

    assert dataset.days() == [*days, LATER]
    assert dataset.days(base_only=True) == days
    assert dataset.interactions([LATER]).num_rows == 1
    assert dataset.fingerprint() == fingerprint
    assert dataset.fingerprint(until=days[1]) != fingerprint


def test_live_traffic_is_not_the_shops_to_answer_for(folder: Path) -> None:
    """A gap before it, or an item that has left since, is no fault of the folder's."""
    write_live(folder, LATER, "an item that left")

    assert validate(folder) == []


def test_a_shop_whose_catalog_changed_is_no_oracle_any_more(folder: Path) -> None:
    assert isinstance(Shop.oracle_of(folder), Shop)

    items = pq.read_table(folder / "items.parquet")
    pq.write_table(items.slice(1), folder / "items.parquet")

    assert Shop.oracle_of(folder) is None
    shutil.rmtree(folder / "truth")
    assert Shop.oracle_of(folder) is None
