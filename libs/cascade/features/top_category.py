"""The top category: the category_l1 a user met most in the 24 hours before a moment.

One definition, computed three ways that tests hold equal: in DuckDB for training rows and for the online store
(point_in_time.py), and here for one user's recent events.

    window     [at - 24 h, at), in whole seconds: an event of the same second is not seen
    ties       the category met latest; if that ties too, the first in code point order
    unknown    events whose item has no category do not count
"""

from __future__ import annotations

from collections.abc import Sequence

from cascade.features.spec import TOP_CATEGORY_WINDOW_S

EVENT_WEIGHT = 1
"""What one event adds to its category. The one place to change when event types come to differ."""


def top_category_of(events: Sequence[tuple[str | None, int]], at: int) -> str | None:
    """The top category at `at` of one user's events (category_l1, UTC seconds), in any order; None without any."""
    weights: dict[str, int] = {}
    latest: dict[str, int] = {}
    for category, timestamp in events:
        if category and at - TOP_CATEGORY_WINDOW_S <= timestamp < at:
            weights[category] = weights.get(category, 0) + EVENT_WEIGHT
            latest[category] = max(latest.get(category, timestamp), timestamp)
    if not weights:
        return None
    return min(weights, key=lambda category: (-weights[category], -latest[category], category))
