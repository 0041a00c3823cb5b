"""Rules for single columns: that they are there, of the right type, and hold possible values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.contract import MAX_ID_LENGTH, Column, TableContract
from cascade.data.validation.faults import Findings

IDS = ("user_id", "item_id", "request_id")
MAX_BATCH_BYTES = 2**30
"""What the text of one column of a batch may take once it is unfolded: a kilobyte for each of a million rows."""
_MAX_PACKING = 100
_BATCH = 1 << 20

Columns = dict[str, pa.Array]


def read_batches(path: Path, name: str, contract: TableContract, findings: Findings) -> Iterator[tuple[int, Columns]]:
    """The file's sound columns, in the contract's types, batch by batch, with the number of the first row.

    A file that cannot be read, and columns that are missing or of another type, are put in `findings`. A column
    with values that are null or no UTF-8 is reported too; it comes along only where all of it can be worked with. A
    file that unfolds to far more than it holds is reported, and not unfolded.
    """
    try:
        folded = _folded(pq.read_metadata(path), name, contract, findings)
        if folded is None:
            return
        with pq.ParquetFile(path, read_dictionary=folded) as file:
            columns = _sound(file.schema_arrow, name, contract, findings)
            offset = 0
            for batch in file.iter_batches(_BATCH, columns=[c.name for c in columns]):
                yield offset, _conform(batch, columns, name, offset, findings)
                offset += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        findings.add(name, None, "unreadable", f"it is not a whole Parquet file ({reason}); export it again")


def _folded(metadata: pq.FileMetaData, name: str, contract: TableContract, findings: Findings) -> list[str] | None:
    """Text columns that hold each value once, to be read as they are; None where the file is a bomb by its own account.

    A megabyte of text that stands once and is named in a million rows is kilobytes of file and a terabyte of text.
    """
    wanted, folded = {c.name for c in contract.columns if pa.types.is_string(c.type)}, set()
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(place) for place in range(metadata.num_columns)]
        unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
        packed = sum(chunk.total_compressed_size for chunk in chunks)
        if unpacked > MAX_BATCH_BYTES and unpacked > _MAX_PACKING * packed:
            findings.add(name, None, "too-large", _UNFOLDS, [f"{packed:,} bytes that unpack to {unpacked:,}"])
            return None
        texts = (c for c in chunks if c.path_in_schema in wanted and c.physical_type == "BYTE_ARRAY")
        folded |= {chunk.path_in_schema for chunk in texts if chunk.has_dictionary_page}
    return sorted(folded)


_UNFOLDS = f"a million rows of a column hold at most {MAX_BATCH_BYTES // 2**20:,} MiB; shorten its values"


def _unfolds_to(raw: pa.Array) -> int:
    """Bytes of text in a column."""
    if not pa.types.is_dictionary(raw.type):
        return int(raw.nbytes)
    lengths = pc.fill_null(pc.binary_length(raw.dictionary), 0).cast(pa.int64())
    return int(pc.sum(lengths.take(raw.indices)).as_py() or 0)


def _sound(schema: pa.Schema, name: str, contract: TableContract, findings: Findings) -> list[Column]:
    sound = []
    for column in contract.columns:
        places = schema.get_all_field_indices(column.name)
        if not places:
            if column.required:
                has = ", ".join(schema.names) or "none"
                findings.add(name, column.name, "missing-column", f"the table needs it; its columns are: {has}")
        elif len(places) > 1:
            findings.add(name, column.name, "duplicate-column", f"the name stands {len(places)} times; keep one")
        else:
            kind = schema.field(places[0]).type
            if _fits(kind, column):
                sound.append(column)
            else:
                findings.add(name, column.name, "wrong-type", f"it holds {kind} and should hold {column.type}; cast it")
    return sound


def _fits(kind: pa.DataType, column: Column) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return column.nullable
    if pa.types.is_string(column.type):
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())
    if pa.types.is_boolean(column.type):
        return bool(pa.types.is_boolean(kind))
    if pa.types.is_floating(column.type) or column.name == "age":  # pandas holds ages with gaps as floats
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
    return bool(pa.types.is_integer(kind))


def _conform(batch: pa.RecordBatch, columns: list[Column], name: str, offset: int, findings: Findings) -> Columns:
    arrays = {}
    for column in columns:
        raw = batch.column(column.name)
        if pa.types.is_string(column.type) and _unfolds_to(raw) > MAX_BATCH_BYTES:
            findings.add(
                name, column.name, "too-large", _UNFOLDS, [f"row {offset}: {_unfolds_to(raw):,} bytes from here on"]
            )
            continue
        if pa.types.is_string(column.type) and not _is_utf8(raw, column.name, name, offset, findings):
            continue
        target = pa.float64() if pa.types.is_floating(column.type) or column.name == "age" else column.type
        array = raw.cast(target, safe=False)
        if not column.nullable and array.null_count:
            bad = array.is_null().to_numpy(zero_copy_only=False)
            findings.add_rows(name, column.name, "null", "every row needs a value", bad, array, offset)
        arrays[column.name] = array
    return arrays


def _is_utf8(raw: pa.Array, column: str, name: str, offset: int, findings: Findings) -> bool:
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid:
        first = next(n for n in range(len(raw)) if not _decodes(raw[n]))
        message = "its text is not UTF-8; write it as UTF-8"
        findings.add(name, column, "not-utf-8", message, [f"row {offset + first}"])
        return False
    return True


def _decodes(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def truth(mask: pa.Array) -> NDArray[np.bool_]:
    """A boolean array as numpy, null as False."""
    values: NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return values


def check_ids(name: str, columns: Columns, offset: int, findings: Findings) -> None:
    """Ids are not empty, not too long, without control characters, and each in the one way that Unicode writes it."""
    for column in IDS:
        if column not in columns:
            continue
        ids = columns[column]
        length = pc.utf8_length(ids)
        findings.add_rows(name, column, "empty", "an id needs a character", truth(pc.equal(length, 0)), ids, offset)
        message = f"an id has at most {MAX_ID_LENGTH} characters"
        findings.add_rows(name, column, "too-long", message, truth(pc.greater(length, MAX_ID_LENGTH)), ids, offset)
        control = truth(pc.match_substring_regex(ids, r"[\x00-\x1f\x7f\x{80}-\x{9f}]"))
        findings.add_rows(name, column, "control-character", "an id has no control characters", control, ids, offset)
        ascii_alone = truth(pc.string_is_ascii(ids)) | ids.is_null().to_numpy(zero_copy_only=False)
        if not ascii_alone.all():
            other = truth(pc.not_equal(pc.utf8_normalize(ids, form="NFC"), ids))
            message = "ids are in Unicode's form NFC, so that what looks alike is alike; normalise them everywhere"
            findings.add_rows(name, column, "not-normalised", message, other, ids, offset)


def check_range(
    name: str,
    columns: Columns,
    column: str,
    least: float,
    most: float,
    findings: Findings,
    offset: int = 0,
    rule: str = "out-of-range",
) -> None:
    """Numbers are finite and lie between the two limits; nulls pass."""
    if column not in columns:
        return
    values = columns[column]
    numbers = values.cast(pa.float64(), safe=False)
    finite = pc.is_finite(numbers)
    bad = truth(pc.invert(finite))
    findings.add_rows(name, column, "not-a-number", "NaN and infinity are no values; use null", bad, values, offset)
    outside = pc.or_(pc.less(numbers, least), pc.greater(numbers, most))
    span = f"at least {least:g}" if most == np.inf else f"between {least:g} and {most:g}"
    message = f"values are {span}; mend them or use null"
    findings.add_rows(name, column, rule, message, truth(pc.and_(finite, outside)), values, offset)
