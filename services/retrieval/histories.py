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
    place, kinds = bundle.positions, EVENT_TYPE_ROWS
    for row, query in enumerate(queries):
        now = query.context.timestamp
        events = [_event(entry) for entry in query.user.recent[:length]]
        if not events:
            continue
        # A column at a time: setting elements of an array one by one takes longer than reading the entries.
        there = slice(0, len(events))
        items[row, there] = [place.get(item_id, _GONE) for _, _, item_id in events]
        types[row, there] = [kinds.get(event_type, OOV) for _, event_type, _ in events]
        ages[row, there] = [max(now - timestamp, _LEAST_AGE_S) for timestamp, _, _ in events]
    return HistoryArrays.gather(items, types, ages, vectors=bundle.item_vectors)


def _event(entry: str) -> tuple[int, str, str]:
    """What an entry says; of text that is none, an event with an item that no bundle holds."""
    try:
        return recent_parts(entry)
    except ValueError:
        return 0, "", ""
