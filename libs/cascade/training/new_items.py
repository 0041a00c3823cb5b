"""New items, without retraining: the catalog as it is now, through the models and transforms that are there.

An item that joined gets its picture's and text's vectors by the same encoders and the stored PCA, its features by the
stored item transform (its id has no row of its own and takes the out-of-vocabulary one), and its place in the candidate
space by the frozen tower. An item that left is in neither table nor index. Those that stay keep their vectors of text
and picture until the next full training; price, categories and audience are read anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.features.item import ItemTransform
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.popularity import Popularity, Ranked

Floats = NDArray[np.float32]
Embed = Callable[[pa.Table], Floats]
"""Rows of items.parquet → float32 [N, 64], zeros for what is not known."""


@dataclass(frozen=True)
class CatalogChange:
    """Item ids, in the catalog's order (those that left in the table's)."""

    added: list[str]
    removed: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def catalog_change(items: pa.Table, table: ItemTable) -> CatalogChange:
    """What joined and what left since the table was made."""
    ids = items.column("item_id").to_pylist()
    known, now = set(table.item_ids), set(ids)
    return CatalogChange(
        [item for item in ids if item not in known], [item for item in table.item_ids if item not in now]
    )


def updated_table(items: pa.Table, table: ItemTable, transform: ItemTransform, image: Embed, text: Embed) -> ItemTable:
    """The table of today's catalog. Items that stay keep their order, new ones follow: positions stay comparable.

    image, text: asked for the new items alone.
    """
    change = catalog_change(items, table)
    row = {item: n for n, item in enumerate(items.column("item_id").to_pylist())}
    kept = [item for item in table.item_ids if item in row]
    ordered = items.take(pa.array([row[item] for item in (*kept, *change.added)], pa.int64()))
    fresh = ordered.slice(len(kept))
    before = table.positions(kept)
    return ItemTable.build(
        ordered,
        transform,
        np.concatenate([table.image[before], _embedded(image, fresh)]),
        np.concatenate([table.text[before], _embedded(text, fresh)]),
    )


def items_without_id(table: ItemTable) -> list[str]:
    """The items that the full training did not meet: they are known by their content alone."""
    return [table.item_ids[n] for n in np.flatnonzero(table.categorical[:, 0] == 0)]


def popularity_within(popularity: Popularity, table: ItemTable) -> Popularity:
    """The rankings without the items that left."""

    def kept(ranked: Ranked) -> Ranked:
        return tuple(entry for entry in ranked if table.positions([entry[0]])[0] != UNKNOWN)

    return Popularity(
        kept(popularity.global_),
        {category: kept(ranked) for category, ranked in popularity.by_l1.items()},
        {category: kept(ranked) for category, ranked in popularity.by_l2.items()},
    )


def _embedded(embed: Embed, fresh: pa.Table) -> Floats:
    if not len(fresh):
        return np.empty((0, 64), np.float32)
    return np.ascontiguousarray(embed(fresh), np.float32)
