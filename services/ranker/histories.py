"""What visitors did lately, as a ranker that reads histories takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.serving.histories import Visitor, recent_events
from cascade.store.artifacts import RankerArtifacts

if TYPE_CHECKING:
    from cascade.models.matches import EventHistories


def histories_of(bundle: RankerArtifacts, visitors: Sequence[Visitor], moments: Sequence[int]) -> EventHistories | None:
    """The visitors' latest interactions as of these moments, newest first; None where the ranker reads none."""
    length = bundle.dlrm.config.history_length
    if not length:
        return None
    from cascade.models.matches import EventHistories

    return EventHistories.gather(
        *recent_events(visitors, moments, length, bundle.items.positions), categorical=bundle.items.categorical
    )
