"""Why an item is in a visitor's list, or is not."""

from __future__ import annotations

from typing import Literal

from cascade.api.common import EventType, Id, Message
from cascade.api.explain import AttributionResponse
from cascade.api.gateway import Item, RecommendationRequest, Stage

Decision = Literal["shown", "retrieval", "filter", "ranker", "catalog"]
"""`shown`, or the stage that dropped the item; `catalog` where this gateway or the ranker does not hold it (yet)."""


class WhyRequest(RecommendationRequest):
    """POST /v1/explanations: the request whose list is asked about, and the item."""

    item_id: Id


class Verdict(Message):
    """What decided. Ranks begin with 1; numbers that did not play a part are null.

    rank, of: the item's place at the deciding stage, and among how many
    value, needed, short_by: its score there (retrieval: dot product, ranker: click probability), that of the last item
        that went on, and the difference
    sentence: all of it for a person
    """

    decided_by: Decision
    rank: int | None = None
    of: int | None = None
    value: float | None = None
    needed: float | None = None
    short_by: float | None = None
    sentence: str


class LikedNeighbour(Item):
    """An item that the user liked, and how like the explained one it is (cosines)."""

    event_type: EventType
    image_similarity: float
    text_similarity: float
    similarity: float


class WhyResponse(Message):
    """Why the item is there or not.

    attribution: what its click probability is made of; null where the ranker does not answer or does not know it
    liked: nearest of the user's latest interactions that were no refusal
    degraded: stages that the list was made without
    """

    item: Item
    verdict: Verdict
    attribution: AttributionResponse | None
    liked: list[LikedNeighbour]
    degraded: list[Stage]
