"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cascade.files import replacing

Progress = Callable[[str, int, int], None]
"""Called as (what is being done, how many are done, of how many)."""


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file; equal tables give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_text(text: str, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(content: bytes, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
