"""Messages of the ranker service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.api.common import (
    MAX_CANDIDATES,
    CandidateIds,
    Context,
    Message,
    Probability,
    StageTiming,
    Track,
    UserFeatures,
)


class Diversity(Message):
    """Weighted sampling without replacement instead of the plain top k.

    A temperature near 0 is the top k, a large one a uniform draw. Without a seed each request draws anew.
    """

    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


class RankRequest(Message):
    """POST /v1/rank: order candidates by click probability and keep k."""

    user: UserFeatures
    context: Context
    item_ids: CandidateIds
    k: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 10
    diversity: Diversity | None = None
    track: Track = Field(default="stable", description="which bundle is asked; without a canary, stable answers")


class RankResponse(Message):
    """Item ids with click probabilities, in the order to show. `unknown` ids were dropped, never mapped.

    A propensity is the chance that the item had of its place given the items before it: 1 for the plain top k, below 1
    where the list was drawn. track: the bundle that answered, which need not be the one asked.
    """

    item_ids: list[str]
    scores: list[Probability]
    propensities: list[Probability]
    unknown: int
    version: str
    track: Track = "stable"
    timing: StageTiming
