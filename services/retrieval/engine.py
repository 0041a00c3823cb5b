"""What retrieval does, free of HTTP: a batch of questions to candidates, by one forward pass and one search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cascade.api.common import Context, UserFeatures
from cascade.api.retrieval import RetrieveRequest, SimilarRequest
from cascade.serving.errors import ModelFault, UnknownItem
from cascade.serving.reload import BundleHolder
from cascade.store.artifacts import RetrievalArtifacts
from services.retrieval.histories import histories_of

Query = RetrieveRequest | SimilarRequest

_LIKENESS_DEPTH = 4
"""times as many items as are wanted are looked at to find those most like an item"""
_SMALLEST_LENGTH = 1e-12

_WARM_UP = RetrieveRequest(user=UserFeatures(user_id="warm-up"), context=Context(timestamp=0))


@dataclass(frozen=True)
class Candidates:
    """Item ids and dot products, best first, and the bundle that found them."""

    item_ids: list[str]
    scores: list[float]
    version: str
    track: str


class RetrievalEngine:
    """Answers batches from whatever bundle the holder has when a batch starts."""

    def __init__(self, holder: BundleHolder[RetrievalArtifacts]) -> None:
        self._holder = holder

    def answer(self, queries: Sequence[Query]) -> list[Candidates | Exception]:
        """One answer a query: candidates, UnknownItem, or ModelFault. Raises NotReady without a bundle."""
        loaded = self._holder.current
        return [
            found if isinstance(found, Exception) else Candidates(*found, loaded.version, loaded.track)
            for found in search(loaded.value, queries)
        ]


def warm_up(bundle: RetrievalArtifacts) -> None:
    """One request through everything, so that the first visitor does not pay for lazy set-up."""
    bundle.positions, bundle.id_array  # noqa: B018  (computed once, then kept)
    for found in search(bundle, [_WARM_UP]):
        if isinstance(found, Exception):
            raise found


def search(bundle: RetrievalArtifacts, queries: Sequence[Query]) -> list[tuple[list[str], list[float]] | Exception]:
    """Candidates of each query, or why there are none."""
    vectors, faults = _vectors(bundle, queries)  # [Q, D]
    rows = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    answers: list[tuple[list[str], list[float]] | Exception] = [
        faults.get(row) or ModelFault("the query vector holds NaN or infinity") for row in range(len(queries))
    ]
    k = min(max(map(_deep, queries)), bundle.index.count)
    if len(rows) == 0 or k == 0:
        return answers if k else [faults.get(row) or ([], []) for row in range(len(queries))]
    scores, positions = bundle.index.search(vectors[rows], k)  # [R, k] each
    for row, row_scores, row_positions in zip(rows.tolist(), scores, positions, strict=True):
        query = queries[row]
        # Where an index finds fewer than k it pads with position −1 and no score.
        keep = (row_positions >= 0) & np.isfinite(row_scores)
        found, values = row_positions[keep], row_scores[keep]
        similar_to = _similar_to(query)
        if similar_to is not None:
            found, values = _by_likeness(bundle, bundle.positions[similar_to], found)
        answers[row] = (bundle.id_array.take(found[: query.k]).tolist(), values[: query.k].tolist())
    return answers


def _deep(query: Query) -> int:
    """How many to search: for items like one, more than are shown, as the index finds by the dot product."""
    return query.k if _similar_to(query) is None else query.k * _LIKENESS_DEPTH + 1


def _by_likeness(
    bundle: RetrievalArtifacts, position: int, found: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """Items by their cosine to one, itself left out: int [n] and float32 [n], the most alike first."""
    found = found[found != position]
    if not len(found):
        return found, np.empty(0, np.float32)
    dims = bundle.query_tower.config.item_dims
    vectors = np.stack([bundle.index.reconstruct(int(one)) for one in (position, *found)])[:, :dims]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SMALLEST_LENGTH)
    cosines = vectors[1:] @ vectors[0]
    order = np.argsort(-cosines, kind="stable")
    return found[order], cosines[order]


def _vectors(bundle: RetrievalArtifacts, queries: Sequence[Query]) -> tuple[NDArray[np.float32], dict[int, Exception]]:
    """A vector in the candidate space for each query, float32 [Q, D]; NaN where there is none, and why."""
    vectors = np.full((len(queries), bundle.index.dim), np.nan, np.float32)
    faults: dict[int, Exception] = {}
    asked: list[RetrieveRequest] = []
    user_rows: list[int] = []
    for row, query in enumerate(queries):
        similar_to = _similar_to(query)
        if similar_to is None:
            asked.append(cast(RetrieveRequest, query))
            user_rows.append(row)
            continue
        position = bundle.positions.get(similar_to)
        if position is None:
            faults[row] = UnknownItem(f"no item {similar_to!r} in the index")
        else:
            # Its own popularity is no likeness, and that of others must not bring them up.
            dims = bundle.query_tower.config.item_dims
            vectors[row] = 0
            vectors[row, :dims] = bundle.index.reconstruct(position)[:dims]
    if asked:
        vectors[user_rows] = _query_vectors(bundle, asked)
    return vectors, faults


def _query_vectors(bundle: RetrievalArtifacts, queries: Sequence[RetrieveRequest]) -> NDArray[np.float32]:
    """Each visitor's vector, from what the bundle's query tower reads: float32 [Q, D]."""
    users = [query.user for query in queries]
    features = bundle.user_transform.encode(
        [user.user_id for user in users],
        [user.age for user in users],
        [user.gender for user in users],
        [user.top_category for user in users],
    )
    if bundle.context_transform is not None and bundle.mode != "static":
        moments = bundle.context_transform.encode(
            [query.context.device_type for query in queries], [query.context.timestamp for query in queries]
        )
        features = features.beside(moments)
    return bundle.encoder.predict(features.categorical, features.continuous, histories_of(bundle, queries))


def _similar_to(query: Query) -> str | None:
    """The item whose neighbours are asked for; None where a user's candidates are.

    By attribute, not by class: whatever parses a request, its names are those of `cascade.api`.
    """
    item_id: str | None = getattr(query, "item_id", None)
    return item_id
