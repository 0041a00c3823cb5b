"""Columns out of Arrow tables and request lists, as the arrays transforms compute on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cascade.features.errors import FeatureInputError
from cascade.features.standardiser import Numbers


def require_columns(table: pa.Table | pa.RecordBatch, names: Sequence[str], reader: str) -> None:
    """Raise FeatureInputError naming every column that is missing."""
    missing = [name for name in names if name not in table.schema.names]
    if missing:
        raise FeatureInputError(
            f"{reader} needs the columns {', '.join(names)}; missing: {', '.join(missing)} "
            f"(the table has {', '.join(table.schema.names)})"
        )


def numbers_of_column(table: pa.Table | pa.RecordBatch, name: str) -> Numbers:
    """A numeric column as float64 [N], null as NaN."""
    column = table.column(name)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise FeatureInputError(f"column {name!r} holds {kind}, expected numbers")
    # safe=False: an integer beyond 2**53 is no age and no price, and is judged by its range afterwards.
    filled = pc.fill_null(pc.cast(column, pa.float64(), safe=False), float("nan"))
    numbers: Numbers = _numpy(filled)
    return numbers


def numbers_of_list(values: Sequence[float | None]) -> Numbers:
    """A request's numbers as float64 [N], None as NaN."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def seconds_of_column(table: pa.Table | pa.RecordBatch, name: str) -> NDArray[np.int64]:
    """A column of UTC seconds as int64 [N]; null is an error, a row without a moment has no context."""
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise FeatureInputError(f"column {name!r} holds {column.type}, expected int64 UTC seconds")
    if column.null_count:
        raise FeatureInputError(f"column {name!r} has {column.null_count} nulls; every row needs its moment")
    seconds: NDArray[np.int64] = _numpy(column.cast(pa.int64()))
    return seconds


def _numpy(column: Any) -> NDArray[Any]:
    array: NDArray[Any] = (
        column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    )
    return array
