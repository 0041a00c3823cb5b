"""What was shown: the message that the gateway puts into the impressions stream, one for each recommendation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.api.common import Id, Message, Probability, Timestamp, Track


class ImpressionItem(Message):
    """One item of the list. propensity: the probability that the re-ranker in use showed it there."""

    item_id: Id
    position: Annotated[int, Field(ge=0)]
    score: float | None
    propensity: Probability


class Served(Message):
    """A user's features as the models were served with them. recent: how many of the latest interactions."""

    age: float | None
    gender: str | None
    top_category: str | None
    recent: Annotated[int, Field(ge=0)]


class Impression(Message):
    """A list as it was shown. versions and tracks: by service, those that answered.

    assigned: by service that has a canary, the track whose the user is; what answered differs where the canary failed
    forced: services whose track the request named itself, so that it says nothing of the users at large
    served: of a sample of the lists; whoever looks for drift reads it
    """

    request_id: Id
    user_id: Id
    timestamp: Timestamp
    device_type: str | None
    items: list[ImpressionItem]
    versions: dict[str, str]
    tracks: dict[str, str]
    assigned: dict[str, Track] = Field(default={})
    forced: list[str] = Field(default=[])
    served: Served | None = None
