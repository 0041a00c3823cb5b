"""A linear item-to-item model: each item that a visitor met votes for what goes with it.

The score of item j is the sum over the distinct items i met of W[i, j] (item-based collaborative filtering, Sarwar et
al. 2001; SLIM, Ning and Karypis 2011; EASE, Steck 2019). It remembers single pairs, which vectors of 64 numbers blur;
`training/item_to_item.py` fits it.

W is whole for a small catalog. For a large one each item keeps its strongest neighbours.

Shapes: V rows of the item ids' table, row 0 for ids that are not known; K neighbours; L events, N candidates.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.files import replacing
from cascade.models.arrays import Floats, Rows
from cascade.models.errors import ModelFileError, ModelInputError

_WEIGHTS, _NEIGHBOURS = "weights", "neighbours"
_STORED = np.float16
"""as weights lie in a file; a sum of fifty of them orders three hundred candidates"""
_NOWHERE = np.int32(np.iinfo(np.int32).max)


_scratch = threading.local()


@dataclass(frozen=True, eq=False)
class ItemToItem:
    """W by rows of the item ids' table.

    weights: float32 [V, V], or [V, K] where there are neighbours
    neighbours: int32 [V, K], rows of the table, 0 for none; None: W is whole
    Nothing is said of row 0, nor by it. Raises ModelInputError on shapes that do not fit.
    """

    weights: Floats
    neighbours: Rows | None = None

    def __post_init__(self) -> None:
        expected = (len(self.weights), len(self.weights)) if self.neighbours is None else self.neighbours.shape
        if self.weights.ndim != 2 or self.weights.shape != expected:
            raise ModelInputError(f"weights have shape {self.weights.shape} where {expected} is due")

    @property
    def rows(self) -> int:
        """Of the item ids' table."""
        return len(self.weights)

    def scores(self, met: Rows, candidates: Rows) -> Floats:
        """What the items met say of the candidates, float32 [N].

        met: int32 [L], rows of the ids' table, each counting once; candidates: int32 [N], likewise rows
        """
        voters = np.unique(met)
        voters = voters[voters > 0]
        if not len(voters) or not len(candidates):
            return np.zeros(len(candidates), np.float32)
        if self.neighbours is None:
            # Whole rows, added up by a product: half the time of looking single weights up.
            votes = np.ones(len(voters), np.float32) @ self.weights.take(voters, axis=0)  # [V]
            said: Floats = votes.take(candidates)
        else:
            said = self._by_neighbours(self.neighbours, voters, candidates)
        said[candidates == 0] = 0.0
        return said

    def _by_neighbours(self, neighbours: Rows, voters: Rows, candidates: Rows) -> Floats:
        """Every voter's neighbours looked up among the candidates, by a table over all rows that says where one is."""
        places = _table(self.rows)
        nowhere = len(candidates)
        places[candidates] = np.arange(nowhere, dtype=np.int32)
        at = np.minimum(places[neighbours[voters].ravel()], nowhere)
        sums = np.bincount(at, self.weights[voters].ravel(), nowhere + 1)
        said: Floats = sums[places[candidates]].astype(np.float32)  # a candidate that stands twice has one place
        places[candidates] = _NOWHERE
        return said

    def rounded(self) -> ItemToItem:
        """As it is after being saved and loaded."""
        return ItemToItem(self.weights.astype(_STORED).astype(np.float32), self.neighbours)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save_file

        arrays: dict[str, NDArray[np.generic]] = {_WEIGHTS: self.weights.astype(_STORED)}
        if self.neighbours is not None:
            arrays[_NEIGHBOURS] = self.neighbours
        with replacing(path) as beside:
            save_file(arrays, beside)

    @classmethod
    def load(cls, path: Path) -> ItemToItem:
        """What `save` wrote. Raises ModelFileError."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
            neighbours = arrays.get(_NEIGHBOURS)
            found = cls(arrays[_WEIGHTS].astype(np.float32), neighbours)
        except (OSError, SafetensorError, KeyError, ModelInputError) as error:
            raise ModelFileError(f"{path} holds no item-to-item model ({error}); save the model again") from error
        if neighbours is not None and not (0 <= neighbours.min(initial=0) <= neighbours.max(initial=0) < found.rows):
            raise ModelFileError(f"{path} names neighbours outside its {found.rows} rows; save the model again")
        return found


def _table(rows: int) -> Rows:
    """Int32 [rows] of this thread, nowhere everywhere; who writes into it puts that back."""
    table: Rows | None = getattr(_scratch, "table", None)
    if table is None or len(table) < rows:
        table = _scratch.table = np.full(rows, _NOWHERE, np.int32)
    return table[:rows]
