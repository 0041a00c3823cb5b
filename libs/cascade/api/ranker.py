"""Messages of the ranker service."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from cascade.api.common import (
    MAX_CANDIDATES,
    MAX_K,
    CandidateIds,
    Context,
    Message,
    Probability,
    Question,
    StageTiming,
    Track,
    UserFeatures,
)


class Diversity(Question):
    """Weighted sampling without replacement instead of the plain top k.

    A temperature near 0 is the top k, a large one a uniform draw. Without a seed each request draws anew.
    """

    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


RelevanceWeight = Annotated[float, Field(ge=0.0, le=1.0)]
CategoryLimit = Annotated[int, Field(ge=1, le=MAX_K)]
ExplorationShare = Annotated[float, Field(ge=0.0, le=1.0)]


class Composition(Question):
    """A list put together place by place instead of the plain top k; what is left out has no part in it.

    mmr_lambda: maximal marginal relevance; 1 counts the click probability alone, towards 0 unlikeness to the items
        placed before counts more
    temperature: draw each place in proportion to p^(1/T), as Diversity does
    max_per_category_l1, max_per_category_l2: most items of one category; raised together, one by one, where too few
        candidates are within them
    exploration: chance of each place to go to any candidate that is left, each as likely
    seed: repeats draws
    """

    mmr_lambda: RelevanceWeight | None = None
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    max_per_category_l1: CategoryLimit | None = None
    max_per_category_l2: CategoryLimit | None = None
    exploration: ExplorationShare = 0.0
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.mmr_lambda is not None and self.temperature is not None:
            raise ValueError("mmr_lambda orders and temperature draws; give one of them")
        return self


def _instead_of_diversity(value: Composition, info: ValidationInfo) -> Composition:
    if info.data.get("diversity") is not None:
        raise ValueError("composition stands in place of diversity; give its temperature instead")
    return value


class RankRequest(Question):
    """POST /v1/rank: order candidates by click probability and keep k."""

    user: UserFeatures
    context: Context
    item_ids: CandidateIds
    k: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 10
    diversity: Diversity | None = None
    composition: Annotated[Composition, AfterValidator(_instead_of_diversity)] | None = None
    track: Track = Field(default="stable", description="which bundle is asked; without a canary, stable answers")


class RankResponse(Message):
    """Item ids with click probabilities, in the order to show. `unknown` ids were dropped, never mapped.

    A propensity is the chance that the item had of its place given the items before it: 1 for the plain top k, below 1
    where the list was drawn or explored. track: the bundle that answered, which need not be the one asked.
    """

    item_ids: list[str]
    scores: list[Probability]
    propensities: list[Probability]
    unknown: int
    version: str
    track: Track = "stable"
    timing: StageTiming
