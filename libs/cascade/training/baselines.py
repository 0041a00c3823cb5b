"""What a model has to beat: popularity, and neighbours by co-occurrence. Both behind one interface.

Shapes: U users asked about, I items, positions as in the item table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import scipy.sparse as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray

from cascade.training.errors import TrainingInputError

Positions = NDArray[np.int32]
Floats = NDArray[np.float32]

_CHUNK = 1024


class Baseline(Protocol):
    """Recommends from interactions alone."""

    def scores(self, user_ids: Sequence[str | None]) -> Floats:
        """Every item's score for each user, float32 [U, I]; an unknown user gets what holds for everybody."""
        ...

    def recommend(self, user_ids: Sequence[str | None], k: int) -> Positions:
        """The k items of highest score, best first, int32 [U, k]."""
        ...


class Popularity:
    """The same list for everybody: the most met items."""

    def __init__(self, item_positions: NDArray[np.integer], items: int) -> None:
        if len(item_positions) == 0:
            raise TrainingInputError("there are no interactions to count; give at least one training day")
        self._counts = np.bincount(item_positions, minlength=items).astype(np.float32)

    def scores(self, user_ids: Sequence[str | None]) -> Floats:
        """The counts, float32 [U, I]."""
        return np.broadcast_to(self._counts, (len(user_ids), len(self._counts)))

    def recommend(self, user_ids: Sequence[str | None], k: int) -> Positions:
        """The most met items, int32 [U, k]."""
        best = top_positions(self._counts[None, :], k)
        return np.broadcast_to(best, (len(user_ids), best.shape[1]))


class ItemKnn:
    """Items like those a user has met: cosine over the users who met both (Sarwar et al. 2001).

    Items the user has met score by their neighbours like any other item. A user without history gets popularity.
    """

    def __init__(
        self,
        user_ids: Sequence[str] | pa.ChunkedArray,
        item_positions: NDArray[np.integer],
        items: int,
        neighbours: int = 200,
    ) -> None:
        """user_ids: of each interaction; an Arrow column, better dictionary-encoded, where there are millions."""
        if len(user_ids) != len(item_positions):
            raise TrainingInputError(
                f"there are {len(user_ids)} user ids and {len(item_positions)} items; give one each per interaction"
            )
        self._popularity = Popularity(item_positions, items)
        column = user_ids if isinstance(user_ids, pa.ChunkedArray) else pa.chunked_array([user_ids], pa.string())
        # One dictionary over all chunks: 8 million ids as Python strings would take a gigabyte and minutes to sort.
        encoded = column.dictionary_encode().combine_chunks()
        rows, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        self._rows = {name: row for row, name in enumerate(names)}
        ones = np.ones(len(rows), np.float32)
        self._met = sp.csr_matrix((ones, (rows, item_positions)), shape=(len(names), items))
        self._met.data[:] = 1.0  # met twice counts once
        self._similarity = _nearest(_cosine(self._met), neighbours)

    def scores(self, user_ids: Sequence[str | None]) -> Floats:
        """Summed similarity to the user's items, float32 [U, I]."""
        known = np.array([u is not None and u in self._rows for u in user_ids], bool)
        scores = np.array(self._popularity.scores(user_ids))
        if known.any():
            rows = [self._rows[u] for u in user_ids if u is not None and u in self._rows]
            scores[known] = (self._met[rows] @ self._similarity).toarray()
        return scores

    def recommend(self, user_ids: Sequence[str | None], k: int) -> Positions:
        """The nearest items, int32 [U, k]."""
        parts = [
            top_positions(self.scores(user_ids[start : start + _CHUNK]), k) for start in range(0, len(user_ids), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.empty((0, k), np.int32)


def top_positions(scores: Floats, k: int) -> Positions:
    """The k highest of each row, best first, equal scores in order of position: [U, I] → int32 [U, min(k, I)]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)


def _cosine(met: Any) -> Any:
    """Cosine of all pairs of columns of a sparse 0/1 matrix [users, I], without an item's own, sparse [I, I]."""
    together = (met.T @ met).tocsr()
    norms = np.sqrt(np.maximum(together.diagonal(), 1.0))
    scale = sp.diags_array(1.0 / norms)
    cosine = (scale @ together @ scale).tocsr()
    cosine = (cosine - sp.diags_array(cosine.diagonal())).tocsr()
    cosine.eliminate_zeros()
    return cosine


def _nearest(similarity: Any, neighbours: int) -> Any:
    """Each row's largest entries alone."""
    for row in range(similarity.shape[0]):
        start, end = similarity.indptr[row], similarity.indptr[row + 1]
        if end - start > neighbours:
            values = similarity.data[start:end]
            values[np.argsort(-values, kind="stable")[neighbours:]] = 0.0
    similarity.eliminate_zeros()
    return similarity.astype(np.float32)
