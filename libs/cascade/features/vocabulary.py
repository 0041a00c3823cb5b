"""Vocabularies: strings to rows of an embedding table.

Row 0 is out-of-vocabulary: null, the empty string and everything not seen at fitting end there. Known values
take rows 1, 2, ... in code point order, so the same set of values always gives the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.features.errors import FeatureFileCorruptedError, FeatureFileMissingError, FeatureInputError
from cascade.features.files import FORMAT, check_format
from cascade.features.spec import OOV, Rows
from cascade.files import replacing

KIND = "vocabulary"


class Vocabulary:
    """An immutable map from strings to int32 rows, row 0 being out-of-vocabulary.

    Build one with `Vocabulary.build`. `len()` counts known values, `cardinality` the embedding rows with OOV.
    """

    def __init__(self, values: pa.Array) -> None:
        """values: pa.string, sorted, unique, no null, no empty string (`build` sees to that)."""
        self._values = values

    @classmethod
    def build(cls, values: Iterable[str | None]) -> Vocabulary:
        """A vocabulary of the distinct values, null and empty left out; Arrow arrays go as they are."""
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            strings = _strings(values)
        else:
            strings = pa.array(values if isinstance(values, (list, tuple)) else list(values), pa.string())
        distinct = pc.drop_null(pc.unique(strings))
        distinct = distinct.filter(pc.not_equal(distinct, ""))
        # Arrow sorts UTF-8 bytes, which is code point order.
        ordered = distinct.take(pc.sort_indices(distinct))
        return cls(ordered.combine_chunks() if isinstance(ordered, pa.ChunkedArray) else ordered)

    @property
    def cardinality(self) -> int:
        """Rows an embedding table needs: the known values and OOV."""
        return len(self._values) + 1

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, value: object) -> bool:
        return value in self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and bool(self._values.equals(other._values))

    __hash__ = None  # type: ignore[assignment]  # equality is by content; use `digest` as a key

    @property
    def values(self) -> list[str]:
        """The known values; `values[i]` has row `i + 1`."""
        known: list[str] = self._values.to_pylist()
        return known

    @cached_property
    def digest(self) -> str:
        """sha256 hex of the values in row order."""
        digest = hashlib.sha256()
        # Lengths beside the joined bytes, so that ("ab", "c") and ("a", "bc") differ.
        digest.update(pc.binary_length(self._values).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update("".join(self.values).encode())
        return digest.hexdigest()

    @cached_property
    def _rows(self) -> dict[str | None, int]:
        return {value: row for row, value in enumerate(self.values, start=1)}

    def row(self, value: str | None) -> int:
        """The row of one value."""
        return self._rows.get(value, OOV)

    def rows(self, values: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> Rows:
        """The rows of many values: int32 [N].

        A sequence takes one dictionary lookup a value (a request's handful); an Arrow array, plain or
        dictionary-encoded, one vectorised pass (a table's millions).
        """
        if not isinstance(values, (pa.Array, pa.ChunkedArray)):
            get = self._rows.get
            return np.fromiter([get(value, OOV) for value in values], np.int32, count=len(values))
        if isinstance(values, pa.ChunkedArray):
            if not pa.types.is_dictionary(values.type):
                return self._index(values)
            parts = [self.rows(chunk) for chunk in values.chunks]
            return np.concatenate(parts) if parts else np.empty(0, np.int32)
        if isinstance(values, pa.DictionaryArray):
            by_code = np.append(self._index(values.dictionary), np.int32(OOV))
            codes = pc.fill_null(values.indices.cast(pa.int64()), len(by_code) - 1)
            coded: Rows = by_code[codes.to_numpy(zero_copy_only=False)]
            return coded
        return self._index(values)

    def _index(self, values: pa.Array | pa.ChunkedArray) -> Rows:
        found = pc.index_in(_strings(values), value_set=self._values)
        found = pc.fill_null(found, -1)
        positions = found.to_numpy() if isinstance(found, pa.ChunkedArray) else found.to_numpy(zero_copy_only=False)
        rows: Rows = positions.astype(np.int32) + np.int32(1)
        return rows

    def save(self, path: Path) -> None:
        """Write a Parquet file of one column, `value`, in row order; the digest travels in the schema."""
        metadata = {"kind": KIND, "format": str(FORMAT), "sha256": self.digest}
        schema = pa.schema([pa.field("value", pa.string(), nullable=False)], metadata=metadata)
        with replacing(path) as beside:
            pq.write_table(pa.Table.from_arrays([self._values], schema=schema), beside)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises FeatureFileMissingError, FeatureFileCorruptedError (unreadable, or not the content that was
        written), FeatureFormatError (a newer format, or no vocabulary).
        """
        if not path.is_file():
            raise FeatureFileMissingError(path, "no such file; save the vocabulary there first")
        try:
            table = pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise FeatureFileCorruptedError(path, f"not a readable Parquet file ({error}); fit it again") from error
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        found = metadata.get("format", "")
        check_format(path, KIND, metadata.get("kind"), int(found) if found.isdecimal() else found)
        if table.schema.names != ["value"] or table.schema.field("value").type != pa.string():
            raise FeatureFileCorruptedError(path, f"columns {table.schema.names}, expected one of strings, 'value'")
        column = table.column("value")
        vocabulary = cls(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
        if column.null_count or vocabulary.digest != metadata.get("sha256"):
            raise FeatureFileCorruptedError(path, "its content does not match its sha256; fit it again")
        return vocabulary


def _strings(values: Any) -> Any:
    """The array as pa.string; raises FeatureInputError when its values are no strings."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    ):
        raise FeatureInputError(f"a vocabulary takes strings, not {values.type}; cast the column first")
    return values if values.type == pa.string() else values.cast(pa.string())
