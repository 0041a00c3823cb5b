"""Messages of the retrieval service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.api.common import MAX_CANDIDATES, Context, Id, Message, Question, StageTiming, Track, UserFeatures


class RetrieveRequest(Question):
    """POST /v1/retrieve: the k items whose candidate vectors score highest for this user."""

    user: UserFeatures
    context: Context
    k: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 300
    with_scores: bool = Field(default=True, description="whether the answer holds the scores; without, they are empty")
    track: Track = Field(default="stable", description="which bundle is asked; without a canary, stable answers")


class SimilarRequest(Question):
    """POST /v1/similar: the items nearest to an item in the candidate space, itself left out."""

    item_id: Id
    k: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 10


class RetrieveResponse(Message):
    """Item ids and dot products, best first. Fewer than k only when the catalog is smaller. track: who answered."""

    item_ids: list[str]
    scores: list[float]
    version: str
    track: Track = "stable"
    timing: StageTiming
