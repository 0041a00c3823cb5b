"""The top category: the category_l1 a user met most in the 24 hours before a moment.

One definition, computed three ways that tests hold equal: in DuckDB for training rows and for the online store
(point_in_time.py), and here for one user's recent events, which is what the features worker pushes.

    window     [at - 24 h, at), in whole seconds: an event of the same second is not seen
    weights    an event adds its type's weight to its item's category; a type without a weight adds OTHER_WEIGHT;
               a category whose weights sum to 0 or less is nobody's top category
    ties       the category met latest; if that ties too, the first in code point order
    unknown    events whose item has no category do not count
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from cascade.features.spec import TOP_CATEGORY_WINDOW_S

EventWeights = Mapping[str, int]
"""Event type → what one event of it adds. Whole numbers, so that sums do not depend on their order."""

EVENT_WEIGHTS: EventWeights = MappingProxyType(
    {"view": 1, "click": 1, "add_to_cart": 3, "purchase": 5, "not_interested": -3}
)
OTHER_WEIGHT = 1
"""Of the types that a shop of one's own may have beside these."""


class CategoryEvent(NamedTuple):
    """One event of a user. timestamp: UTC seconds."""

    category: str | None
    timestamp: int
    event_type: str = "view"


def top_category_of(
    events: Iterable[tuple[str | None, int] | tuple[str | None, int, str]],
    at: int,
    weights: EventWeights = EVENT_WEIGHTS,
) -> str | None:
    """The top category at `at` of one user's events (CategoryEvent, or without a type), in any order; None: none."""
    total: dict[str, int] = {}
    latest: dict[str, int] = {}
    since = at - TOP_CATEGORY_WINDOW_S
    for event in events:
        category, timestamp, event_type = event if len(event) == 3 else CategoryEvent(*event)
        if category and since <= timestamp < at:
            total[category] = total.get(category, 0) + weights.get(event_type, OTHER_WEIGHT)
            if timestamp > latest.get(category, since - 1):
                latest[category] = timestamp
    liked = [category for category, weight in total.items() if weight > 0]
    if not liked:
        return None
    return min(liked, key=lambda category: (-total[category], -latest[category], category))
