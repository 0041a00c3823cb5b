"""The item table: every feature of every item, in memory, in one order.

Training gathers from it by position, the ranker answers from it without a fetch, the index is built over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.features.errors import FeatureFileCorruptedError, FeatureFileMissingError, FeatureInputError
from cascade.features.files import (
    FORMAT,
    hash_arrays,
    hash_json,
    read_array,
    read_json,
    write_array,
    write_json,
)
from cascade.features.id_map import UNKNOWN as UNKNOWN
from cascade.features.id_map import IdMap
from cascade.features.item import ItemTransform
from cascade.features.spec import EMBEDDING_DIM, ITEM_CATEGORICAL, ITEM_CONTINUOUS, Encoded, Floats, Rows
from cascade.files import replacing

KIND = "item-table"
DESCRIPTION = "table.json"
_IDS = "item_ids.parquet"

_LAYOUT: dict[str, tuple[type[np.generic], int]] = {
    "categorical": (np.int32, len(ITEM_CATEGORICAL)),
    "continuous": (np.float32, len(ITEM_CONTINUOUS)),
    "image": (np.float32, EMBEDDING_DIM),
    "text": (np.float32, EMBEDDING_DIM),
}


@dataclass(frozen=True, eq=False)
class ItemTable:
    """N items: ids and, by position, their features.

    item_ids: [N], distinct
    categorical: int32 [N, 4], continuous: float32 [N, 1] (the item transform's columns)
    image, text: float32 [N, 64] (zero rows where there is no picture)
    Raises FeatureInputError on repeated ids, other shapes or dtypes, and values that are not finite.
    """

    item_ids: list[str]
    categorical: Rows
    continuous: Floats
    image: Floats
    text: Floats

    def __post_init__(self) -> None:
        for name, array in self._arrays.items():
            dtype, width = _LAYOUT[name]
            if array.dtype != dtype or array.shape != (len(self.item_ids), width):
                raise FeatureInputError(
                    f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {(len(self.item_ids), width)}"
                )
            if dtype is np.float32 and not np.isfinite(array).all():
                bad = self.item_ids[int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])]
                raise FeatureInputError(f"{name} holds NaN or infinity, first for item {bad!r}; build it again")
        if len(set(self.item_ids)) != len(self.item_ids):
            last = {item: at for at, item in enumerate(self.item_ids)}
            repeated = next(item for at, item in enumerate(self.item_ids) if last[item] != at)
            raise FeatureInputError(f"item ids repeat, first {repeated!r}; a table holds each item once")

    @classmethod
    def build(cls, items: pa.Table, transform: ItemTransform, image: Floats, text: Floats) -> ItemTable:
        """Encode the catalog; image and text are rows in the catalog's order."""
        encoded = transform.transform(items)
        ids = items.column("item_id").to_pylist()
        return cls(ids, encoded.categorical, encoded.continuous, image, text)

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def encoded(self) -> Encoded:
        """The item transform's columns, all items."""
        return Encoded(self.categorical, self.continuous)

    @cached_property
    def _map(self) -> IdMap:
        return IdMap(self.item_ids)

    @cached_property
    def _id_array(self) -> pa.Array:
        return pa.array(self.item_ids, pa.string())

    @cached_property
    def _id_objects(self) -> NDArray[np.object_]:
        return np.array(self.item_ids, object)

    def positions(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> Rows:
        """Where the items stand, int32 [K]; -1 for an unknown id: never index with it, drop and count."""
        if isinstance(ids, (pa.Array, pa.ChunkedArray)):
            found = pc.fill_null(pc.index_in(ids.cast(pa.string()), self._id_array), UNKNOWN)
            array: Rows = np.asarray(found, np.int32)
            return array
        return self._map.positions(ids)

    def ids(self, positions: NDArray[np.integer]) -> list[str]:
        """The ids at positions [K], each within the table; one gather instead of a Python step an id."""
        found: list[str] = self._id_objects.take(positions).tolist()
        return found

    @property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in _LAYOUT}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 hex of ids and features, in order."""
        return hash_json([self.item_ids, hash_arrays(self._arrays)])

    def save(self, folder: Path) -> None:
        """Write item_ids.parquet, one .npy an array, and table.json last."""
        with replacing(folder / _IDS) as beside:
            pq.write_table(pa.table({"item_id": self._id_array}), beside)
        for name, array in self._arrays.items():
            write_array(folder / f"{name}.npy", array)
        write_json(
            folder / DESCRIPTION,
            {"kind": KIND, "format": FORMAT, "items": len(self), "fingerprint": self.fingerprint},
        )

    @classmethod
    def load(cls, folder: Path, *, mmap: bool = False) -> ItemTable:
        """Read what `save` wrote and verify it; `mmap` maps the arrays instead of holding them.

        Raises FeatureFileError's subclasses: a part is missing, altered, or of a newer format.
        """
        path = folder / DESCRIPTION
        content = read_json(path, KIND)
        item_ids = _read_ids(folder / _IDS)
        arrays = {
            name: read_array(folder / f"{name}.npy", dtype, (len(item_ids), width), mmap=mmap)
            for name, (dtype, width) in _LAYOUT.items()
        }
        try:
            table = cls(item_ids, **arrays)
        except FeatureInputError as error:
            raise FeatureFileCorruptedError(folder, str(error)) from error
        if table.fingerprint != content.get("fingerprint"):
            raise FeatureFileCorruptedError(path, "its parts do not match its fingerprint; build it again")
        return table


def _read_ids(path: Path) -> list[str]:
    if not path.is_file():
        raise FeatureFileMissingError(path, "no such file; build the table again")
    try:
        ids: list[str] = pq.read_table(path, columns=["item_id"], partitioning=None).column("item_id").to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FeatureFileCorruptedError(path, f"no readable item ids ({error}); build the table again") from error
    return ids
