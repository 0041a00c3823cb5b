"""What the gateway showed, as the impressions stream holds it: one message a recommendation."""

from __future__ import annotations

from cascade.api.common import Message


class ImpressionItem(Message):
    """One item of a list shown.

    position: from 0, the first shown
    score: click probability, or null where the ranker did not answer
    propensity: chance that the re-ranker gave this item this position, given those before it
    """

    item_id: str
    position: int
    score: float | None
    propensity: float


class Impression(Message):
    """A list shown to a user. timestamp: UTC seconds. versions, tracks: by stage, of those that answered."""

    request_id: str
    user_id: str
    timestamp: int
    device_type: str | None
    items: list[ImpressionItem]
    versions: dict[str, str]
    tracks: dict[str, str]
