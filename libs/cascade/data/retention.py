"""Old rows go by age: partitions of the dataset, offline features."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime, time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.data.contract import day_of_folder
from cascade.files import replacing

_MOMENT = "event_timestamp"


def drop_days(table: Path, before: date) -> list[date]:
    """Remove the partitions `date=…` of a table that are older than a day; → which went, in order.

    A partition first gets a hidden name, so that no reader meets half of it.
    """
    gone = []
    for folder in sorted(table.glob("date=*")) if table.is_dir() else []:
        day = day_of_folder(folder.name)
        if day is None or day >= before or not folder.is_dir():
            continue
        hidden = folder.with_name(f".{folder.name}.gone")
        shutil.rmtree(hidden, ignore_errors=True)  # of a removal that was cut short
        os.replace(folder, hidden)
        shutil.rmtree(hidden)
        gone.append(day)
    return gone


def drop_rows(file: Path, before: date) -> int:
    """Remove rows of a file of features whose moment is older than a day; → how many went."""
    if not file.is_file():
        return 0
    table = pq.read_table(file)
    kind = table.schema.field(_MOMENT).type
    limit = pa.scalar(datetime.combine(before, time(), UTC)).cast(pa.timestamp("us", tz="UTC"))
    young = pc.greater_equal(table.column(_MOMENT).cast(pa.timestamp("us", tz="UTC")), limit)
    kept = table.filter(young)
    if len(kept) < len(table):
        with replacing(file) as beside:
            pq.write_table(kept, beside, coerce_timestamps="us" if pa.types.is_timestamp(kind) else None)
    return len(table) - len(kept)
