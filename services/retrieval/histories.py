"""What visitors did lately, from requests to the arrays that a query tower of mode session reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cascade.api.common import recent_parts
from cascade.api.retrieval import RetrieveRequest
from cascade.features.spec import EVENT_TYPE_ROWS, OOV
from cascade.store.artifacts import RetrievalArtifacts

if TYPE_CHECKING:
    from cascade.models.history import HistoryArrays

_GONE = -1
_LEAST_AGE_S = 1
"""Training sees events before a row's second alone, so of at least this age; what a visitor did in the second of the
request, or later by the clock of whoever sent it, is as old."""


def histories_of(bundle: RetrievalArtifacts, queries: Sequence[RetrieveRequest]) -> HistoryArrays | None:
    """The visitors' latest interactions, newest first; None where the bundle's query tower reads none.

    Items that the bundle lacks, and entries that are none, keep their place and say nothing.
    """
    if bundle.item_vectors is None or bundle.mode != "session":
        return None
    from cascade.models.history import HistoryArrays

    most = bundle.query_tower.config.history_length
    length = min(most, max(len(query.user.recent) for query in queries))
    items = np.full((len(queries), length), _GONE, np.int32)
    types = np.zeros((len(queries), length), np.int32)
    ages = np.zeros((len(queries), length), np.int64)
    place = bundle.positions
    for row, query in enumerate(queries):
        now = query.context.timestamp
        for column, entry in enumerate(query.user.recent[:length]):
            try:
                timestamp, event_type, item_id = recent_parts(entry)
            except ValueError:
                continue
            items[row, column] = place.get(item_id, _GONE)
            types[row, column] = EVENT_TYPE_ROWS.get(event_type, OOV)
            ages[row, column] = max(now - timestamp, _LEAST_AGE_S)
    return HistoryArrays.gather(items, types, ages, vectors=bundle.item_vectors)
