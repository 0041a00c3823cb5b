"""What visitors did lately, from requests to the arrays that models read: retrieval's and the ranker's alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.api.common import recent_parts
from cascade.features.spec import EVENT_TYPE_ROWS, OOV

Rows = NDArray[np.int32]

_GONE = -1
_LEAST_AGE_S = 1
"""Training sees events before a row's second alone, so of at least this age; what a visitor did in the second of the
request, or later by the clock of whoever sent it, is as old."""


class Visitor(Protocol):
    """Of `cascade.api.common.UserFeatures`."""

    @property
    def recent(self) -> Sequence[str]: ...


def recent_events(
    visitors: Sequence[Visitor],
    moments: Sequence[int],
    length: int,
    positions: Callable[[list[str]], Rows | Sequence[int]],
) -> tuple[Rows, Rows, NDArray[np.int64]]:
    """The visitors' latest events, newest first: positions of their items int32 [B, L], types int32 [B, L], ages int64
    [B, L]; L is the longest there is, at most `length`.

    positions: of item ids, -1 for one that the bundle lacks. Such items, and entries that are none, keep their place
    and say nothing.
    """
    events = [[_event(entry) for entry in visitor.recent[:length]] for visitor in visitors]
    shape = len(events), max(map(len, events), default=0)
    items = np.full(shape, _GONE, np.int32)
    types = np.zeros(shape, np.int32)
    ages = np.zeros(shape, np.int64)
    kinds = EVENT_TYPE_ROWS
    for row, (mine, now) in enumerate(zip(events, moments, strict=True)):
        if not mine:
            continue
        # A column at a time: setting elements of an array one by one takes longer than reading the entries.
        there = slice(0, len(mine))
        items[row, there] = positions([item_id for _, _, item_id in mine])
        types[row, there] = [kinds.get(event_type, OOV) for _, event_type, _ in mine]
        ages[row, there] = [max(now - timestamp, _LEAST_AGE_S) for timestamp, _, _ in mine]
    return items, types, ages


def _event(entry: str) -> tuple[int, str, str]:
    """What an entry says; of text that is none, an event with an item that no bundle holds."""
    try:
        return recent_parts(entry)
    except ValueError:
        return 0, "", ""
