"""What visitors did lately, as a ranker takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade.serving.histories import Rows, Visitor, recent_events
from cascade.store.artifacts import RankerArtifacts

if TYPE_CHECKING:
    from cascade.models.matches import EventHistories

Recent = tuple[Rows, Rows, NDArray[np.int64]]
"""Positions of items int32 [B, L], types int32 [B, L], ages int64 [B, L]; see `recent_events`."""


def recent_of(bundle: RankerArtifacts, visitors: Sequence[Visitor], moments: Sequence[int]) -> Recent | None:
    """The visitors' latest interactions as of these moments, newest first; None where neither the network nor its
    affinity reads any."""
    length = bundle.dlrm.events_read
    return recent_events(visitors, moments, length, bundle.items.positions) if length else None


def histories_of(bundle: RankerArtifacts, recent: Recent | None) -> EventHistories | None:
    """As much of it as the network reads; None where it reads none."""
    length = bundle.dlrm.config.history_length
    if recent is None or not length:
        return None
    from cascade.models.matches import EventHistories

    items, types, ages = recent
    read = items[:, :length], types[:, :length], ages[:, :length]
    return EventHistories.gather(*read, categorical=bundle.items.categorical)
