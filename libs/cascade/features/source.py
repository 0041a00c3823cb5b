"""What feature queries need of a dataset, and the DuckDB session they run in."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from cascade.features.errors import FeatureInputError
from cascade.features.spec import DEFAULT_EVENT_TYPE

INTERACTIONS_IN = """
    CREATE TEMP MACRO interactions_in(files) AS TABLE
    SELECT * REPLACE (coalesce(event_type, default_event_type()) AS event_type)
    FROM (
        FROM read_parquet(files, hive_partitioning = false, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::VARCHAR AS device_type, NULL::VARCHAR AS event_type WHERE false
    )
"""
"""Interactions as a table, in every session: the columns that a shop may leave out are there, devices unknown and
events of the default type. `Dataset.interactions` reads the same."""


class InteractionSource(Protocol):
    """The part of `cascade.data.contract.Dataset` that feature queries read."""

    def users(self) -> pa.Table: ...

    def items(self) -> pa.Table: ...

    def days(self) -> list[dt.date]: ...

    def interaction_files(self, days: list[dt.date] | None = None) -> list[Path]: ...


@dataclass(frozen=True)
class QueryLimits:
    """What a query may take: memory in DuckDB's notation, threads (None: all cores), where it spills to."""

    memory: str = "6GB"
    threads: int | None = None
    spill_folder: Path | None = None


@contextmanager
def session(limits: QueryLimits | None = None) -> Iterator[Any]:
    """An in-memory DuckDB connection under the given limits; what it spilled is removed at the end."""
    # Imported here: services read fitted features and have no DuckDB.
    import duckdb

    limits = limits or QueryLimits()
    with tempfile.TemporaryDirectory(prefix="cascade-spill-", dir=limits.spill_folder) as spill:
        # Order comes from ORDER BY alone, so that tables are filled by all threads at once.
        config: dict[str, Any] = {
            "memory_limit": limits.memory,
            "temp_directory": spill,
            "preserve_insertion_order": False,
        }
        if limits.threads is not None:
            config["threads"] = limits.threads
        connection = duckdb.connect(":memory:", config=config)
        try:
            connection.execute(f"CREATE TEMP MACRO default_event_type() AS '{DEFAULT_EVENT_TYPE}'")
            connection.execute(INTERACTIONS_IN)
            yield connection
        finally:
            connection.close()


def files_of(dataset: InteractionSource, days: Collection[dt.date]) -> list[str]:
    """The Parquet files of the given days.

    Raises FeatureInputError when there are no days, a day is not in the dataset, or none of them holds a file.
    """
    if not days:
        raise FeatureInputError(f"no days were given; the dataset has {_span(dataset.days())}")
    missing = sorted(set(days) - set(dataset.days()))
    if missing:
        raise FeatureInputError(
            f"the dataset has no interactions of {', '.join(map(str, missing))}; it has {_span(dataset.days())}"
        )
    files = [str(path) for path in dataset.interaction_files(sorted(set(days)))]
    if not files:
        raise FeatureInputError(f"the folders of {', '.join(map(str, sorted(days)))} hold no Parquet file")
    return files


def _span(days: list[dt.date]) -> str:
    return f"{days[0]} to {days[-1]}" if days else "no days"
