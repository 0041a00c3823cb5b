"""What a model has to beat, all behind one interface: popularity, recent popularity, item-kNN, ALS, BPR, EASE.

They are asked what the models are asked: for the user of a row, with all that he met up to the row's moment, also on
the evaluation days. Those that can compute a user from his items (item-kNN, ALS, EASE) do; BPR has the users of its
training alone. A user of whom nothing is known gets what is popular.

Shapes: E interactions, U users, R rows asked about, I items, positions as in the item table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray

from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.spec import NEGATIVE_EVENT_TYPES
from cascade.training.errors import TrainingInputError
from cascade.training.item_to_item import ease

Positions = NDArray[np.int32]
Floats = NDArray[np.float32]

DAY_S = 86_400


@dataclass(frozen=True)
class Met:
    """What training shows: who met what, when. user: int32 [E], item: int32 [E], timestamp: int64 [E]."""

    user_ids: pa.Array
    user: Positions
    item: Positions
    timestamp: NDArray[np.int64]
    items: int

    def __post_init__(self) -> None:
        if not len(self.item):
            raise TrainingInputError("there are no interactions to count; give at least one training day")
        if not len(self.user) == len(self.item) == len(self.timestamp):
            raise TrainingInputError(
                f"there are {len(self.user)} users, {len(self.item)} items and {len(self.timestamp)} timestamps; "
                "give one each per interaction"
            )

    @classmethod
    def of(cls, parts: Iterable[pa.Table], items: ItemTable) -> Met:
        """From tables with user_id, item_id, timestamp and event_type; negative events and unknown items left out."""
        users, positions, times = [], [], []
        for part in parts:  # one at a time, so that memory holds codes of all days and the strings of one
            negative = pc.is_in(part.column("event_type"), pa.array(NEGATIVE_EVENT_TYPES))
            part = part.filter(pc.invert(negative))
            found = items.positions(part.column("item_id"))
            known = found != UNKNOWN
            positions.append(found[known])
            times.append(part.column("timestamp").to_numpy()[known])
            users.extend(part.column("user_id").filter(pa.array(known)).dictionary_encode().chunks)
        if not users:
            raise TrainingInputError("there are no interactions to count; give at least one training day")
        # One dictionary over all parts: 8 million ids as Python strings would take a gigabyte and minutes to sort.
        encoded = pa.chunked_array(users).unify_dictionaries().combine_chunks()
        encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        return cls(encoded.dictionary, codes, np.concatenate(positions), np.concatenate(times), len(items))

    def rows_of(self, user_ids: pa.Array | pa.ChunkedArray) -> Positions:
        """The users' rows of `matrix`, int32 [R]; -1 for one who is not known."""
        found = pc.fill_null(pc.index_in(user_ids, self.user_ids), UNKNOWN)
        return np.asarray(found, np.int32)

    @cached_property
    def matrix(self) -> Any:
        """Who met what at all, sparse float32 [U, I] of ones."""
        ones = np.ones(len(self.user), np.float32)
        matrix = sp.csr_matrix((ones, (self.user, self.item)), shape=(len(self.user_ids), self.items))
        matrix.data[:] = 1.0  # met twice counts once
        return matrix

    @cached_property
    def counts(self) -> Floats:
        """How often each item was met, float32 [I]."""
        return np.bincount(self.item, minlength=self.items).astype(np.float32)

    def take(self, chosen: NDArray[np.bool_]) -> Met:
        """Some of the interactions."""
        return Met(self.user_ids, self.user[chosen], self.item[chosen], self.timestamp[chosen], self.items)


class Baseline(Protocol):
    """Recommends from interactions alone."""

    def scores(self, users: Positions, history: Any) -> Floats:
        """Every item's score, float32 [R, I].

        users: int32 [R], rows of the training's users, -1 for one it did not meet
        history: sparse float32 [R, I] of ones, what each met up to the moment of asking
        """
        ...


class Popularity:
    """The same list for everybody: the most met items."""

    def __init__(self, met: Met) -> None:
        self._counts = met.counts

    def scores(self, users: Positions, history: Any) -> Floats:
        """The counts, float32 [R, I]."""
        return np.broadcast_to(self._counts, (len(users), len(self._counts)))


class RecentPopularity:
    """The most met items, an interaction counting half as much for each `half_life_days` before the last one."""

    def __init__(self, met: Met, half_life_days: float = 1.0) -> None:
        age = (met.timestamp.max() - met.timestamp) / DAY_S
        self._counts = np.bincount(met.item, np.exp2(-age / half_life_days), minlength=met.items).astype(np.float32)

    def scores(self, users: Positions, history: Any) -> Floats:
        """The decayed counts, float32 [R, I]."""
        return np.broadcast_to(self._counts, (len(users), len(self._counts)))


class ItemKnn:
    """Items like those a user has met: cosine over the users who met both (Sarwar et al. 2001).

    Items the user has met score by their neighbours like any other item.
    """

    def __init__(self, met: Met, neighbours: int = 200) -> None:
        self._popularity = Popularity(met)
        self._similarity = _nearest(_cosine(met.matrix), neighbours)

    def scores(self, users: Positions, history: Any) -> Floats:
        """Summed similarity to the user's items, float32 [R, I]."""
        return _or_popular((history @ self._similarity).toarray(), history, self._popularity, users)


class Ease:
    """A linear model of every item by all others, in closed form (Steck 2019)."""

    def __init__(self, met: Met, regularisation: float = 250.0) -> None:
        self._popularity = Popularity(met)
        self._weights = ease(met.matrix, regularisation)  # [I, I]

    def scores(self, users: Positions, history: Any) -> Floats:
        """The user's items times the weights, float32 [R, I]."""
        return _or_popular(np.asarray(history @ self._weights), history, self._popularity, users)


class Als:
    """Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren and Volinsky 2008).

    Users are computed from their items, as the last half-step of the training would.
    """

    def __init__(
        self,
        met: Met,
        factors: int = 64,
        regularisation: float = 0.05,
        alpha: float = 5.0,
        iterations: int = 15,
        *,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        self._popularity = Popularity(met)
        self._threads = threads
        with _blas(1):
            self._model = AlternatingLeastSquares(
                factors=factors,
                regularization=regularisation,
                alpha=alpha,
                iterations=iterations,
                num_threads=threads,
                random_state=seed,
            )
            self._model.fit(met.matrix, show_progress=False)

    def scores(self, users: Positions, history: Any) -> Floats:
        """Products of the users' and the items' factors, float32 [R, I]."""
        with _blas(1):
            factors = self._model.recalculate_user(np.arange(len(users)), history)
        return _or_popular(factors @ self._model.item_factors.T, history, self._popularity, users)


class Bpr:
    """Matrix factorisation by Bayesian personalised ranking (Rendle et al. 2009), of the users of the training."""

    def __init__(
        self,
        met: Met,
        factors: int = 64,
        regularisation: float = 0.01,
        learning_rate: float = 0.05,
        iterations: int = 100,
        *,
        seed: int = 0,
    ) -> None:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        self._popularity = Popularity(met)
        with _blas(1):
            self._model = BayesianPersonalizedRanking(
                factors=factors,
                regularization=regularisation,
                learning_rate=learning_rate,
                iterations=iterations,
                num_threads=1,  # threads write over each other's steps, and no two runs would be the same
                random_state=seed,
            )
            self._model.fit(met.matrix, show_progress=False)

    def scores(self, users: Positions, history: Any) -> Floats:
        """Products of the users' and the items' factors, biases among them, float32 [R, I]."""
        scores = np.array(self._popularity.scores(users, history))
        known = users != UNKNOWN
        scores[known] = self._model.user_factors[users[known]] @ self._model.item_factors.T
        return scores


def top_positions(scores: Floats, k: int) -> Positions:
    """The k highest of each row, best first, equal scores in order of position: [R, I] → int32 [R, min(k, I)]."""
    rows, items = scores.shape
    if k >= items:
        return np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
    best = np.empty((rows, k), np.int32)
    for row in range(rows):
        keys = -scores[row]
        bound = np.partition(keys, k - 1)[k - 1]  # the k-th best
        among = np.flatnonzero(keys <= bound)  # in order of position, all that tie with the k-th among them
        best[row] = among[np.argsort(keys[among], kind="stable")[:k]]
    return best


def _or_popular(scores: Any, history: Any, popularity: Popularity, users: Positions) -> Floats:
    """Scores [R, I], with popularity where a row has no history."""
    empty = np.diff(history.indptr) == 0
    scores = np.array(scores, np.float32)
    if empty.any():
        scores[empty] = popularity.scores(users[empty], None)
    filled: Floats = scores
    return filled


def _cosine(met: Any) -> Any:
    """Cosine of all pairs of columns of a sparse 0/1 matrix [U, I], without an item's own, sparse [I, I]."""
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
    nearest: Any = similarity.astype(np.float32)
    return nearest


def _blas(threads: int) -> Any:
    """BLAS within so many threads: implicit runs threads of its own, and BLAS's beneath them would fight for cores."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads, user_api="blas")
