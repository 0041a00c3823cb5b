"""What visitors did lately, as a query tower of mode session reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.api.retrieval import RetrieveRequest
from cascade.serving.histories import recent_events
from cascade.store.artifacts import RetrievalArtifacts

if TYPE_CHECKING:
    from cascade.models.history import HistoryArrays

_GONE = -1


def histories_of(bundle: RetrievalArtifacts, queries: Sequence[RetrieveRequest]) -> HistoryArrays | None:
    """The visitors' latest interactions, newest first; None where the bundle's query tower reads none."""
    if bundle.item_vectors is None or bundle.mode != "session":
        return None
    from cascade.models.history import HistoryArrays

    place = bundle.positions

    def positions(ids: list[str]) -> list[int]:
        return [place.get(item_id, _GONE) for item_id in ids]

    length = bundle.query_tower.config.history_length
    events = recent_events(
        [query.user for query in queries], [query.context.timestamp for query in queries], length, positions
    )
    return HistoryArrays.gather(*events, vectors=bundle.item_vectors)
