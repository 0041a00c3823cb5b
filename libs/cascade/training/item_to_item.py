"""Item-to-item models of who met what: two ways to fit W, each better on some data, to be weighed by the stacking.

- EASE (Steck 2019): with P = (XᵀX + λI)⁻¹ the weights are −P / diag(P). Every pair of items counts, given all others:
  best where users met many items each. Its inverse takes the cube of the catalog.
- Co-occurrence: users who met both, over the items' counts to the power of 0.7 each and a shrinkage, so that a pair met
  by few says little (a cosine has the power of 0.5 and no shrinkage). Best where users met few items each.

Shapes: U users, I items, V rows of the item ids' table, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray

from cascade.features.item_table import ItemTable
from cascade.features.spec import ITEM_CATEGORICAL, OOV
from cascade.features.training_set import TrainingSet
from cascade.models.item_to_item import ItemToItem

Floats = NDArray[np.float32]

REGULARISATION = 250.0
POWER, SHRINKAGE = 0.7, 20.0
EASE_ITEMS = 10_000
"""largest catalog for EASE: 1.2 GB while it is inverted, and half a minute"""
WHOLE_ITEMS = 4_096
"""largest catalog whose W is kept whole: 64 MiB"""
NEIGHBOURS = 100
_AT_ONCE = 1_024
_ID = ITEM_CATEGORICAL.index("item_id")


def users_items(parts: Sequence[TrainingSet], items: ItemTable) -> Any:
    """Who met what in the rows of these parts of one training set, sparse float32 [U, V] of ones; nothing of items
    whose id is not known.

    Users are told apart by where their histories begin: their ids may be hidden. Without histories there is none.
    """
    size = int(items.categorical[:, _ID].max(initial=OOV)) + 1
    begins = [part.histories.history_start for part in parts if part.histories is not None]
    if len(begins) < len(parts) or not any(map(len, parts)):
        return sp.csr_matrix((0, size), dtype=np.float32)
    _, user = np.unique(np.concatenate(begins), return_inverse=True)
    item = items.categorical[np.concatenate([part.item_position for part in parts]), _ID]
    known = item != OOV
    shape = int(user.max()) + 1, size
    met = sp.csr_matrix((np.ones(int(known.sum()), np.float32), (user[known], item[known])), shape=shape)
    met.data[:] = 1.0  # met twice counts once
    return met


def fit(met: Any) -> dict[str, ItemToItem]:
    """The models that a catalog of this size allows, by name. met: of `users_items`"""
    size = met.shape[1]
    if not met.nnz:
        return {}
    if size <= WHOLE_ITEMS:
        return {"ease": ItemToItem(ease(met)), "co_occurrence": ItemToItem(co_occurrence(met, np.arange(size)))}
    return {"ease" if size <= EASE_ITEMS else "co_occurrence": _nearest(met)}


def weighed(models: list[ItemToItem], weights: list[float]) -> ItemToItem | None:
    """Their sum, each with its weight, as it is stored; None where nothing is left.

    Raises ValueError on models of neighbours: two of them have different ones.
    """
    parts = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight > 0]
    if not parts:
        return None
    if len(parts) > 1 and any(model.neighbours is not None for model, _ in parts):
        raise ValueError("models of neighbours cannot be added up; weigh one")
    total = np.zeros_like(parts[0][0].weights)
    for model, weight in parts:
        total += np.float32(weight) * model.weights
    return ItemToItem(total, parts[0][0].neighbours).rounded()


def ease(met: Any, regularisation: float = REGULARISATION) -> Floats:
    """W [V, V] of EASE."""
    # float32: the diagonal is at least λ, so the matrix is far from singular for what a ranking needs.
    gram = np.asarray((met.T @ met).todense(), np.float32)
    gram[np.diag_indices(len(gram))] += regularisation
    inverse = np.linalg.inv(gram)
    weights: Floats = (inverse / -np.diag(inverse)).astype(np.float32, copy=False)
    np.fill_diagonal(weights, 0.0)
    return weights


def co_occurrence(met: Any, rows: NDArray[np.integer]) -> Floats:
    """Some rows of W [n, V] of co-occurrence."""
    together = np.asarray((met[:, rows].T @ met).todense(), np.float32)
    together[np.arange(len(rows)), rows] = 0.0
    counts = np.maximum(np.asarray(met.sum(axis=0), np.float32).ravel(), 1.0) ** POWER
    weights: Floats = together / (counts[rows][:, None] * counts[None, :] + np.float32(SHRINKAGE))
    return weights


def _nearest(met: Any) -> ItemToItem:
    """Each item's strongest neighbours, by EASE where its inverse can be had, else by co-occurrence, block by block."""
    size = met.shape[1]
    whole = ease(met) if size <= EASE_ITEMS else None
    weights = np.zeros((size, NEIGHBOURS), np.float32)
    neighbours = np.zeros((size, NEIGHBOURS), np.int32)
    columns = met.tocsc()
    for start in range(0, size, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, size))
        block = co_occurrence(columns, rows) if whole is None else whole[rows]
        best = np.argpartition(-np.abs(block), NEIGHBOURS, axis=1)[:, :NEIGHBOURS].astype(np.int32)
        weights[rows] = np.take_along_axis(block, best, axis=1)
        neighbours[rows] = np.where(weights[rows] != 0, best, OOV)
    return ItemToItem(weights, neighbours)
