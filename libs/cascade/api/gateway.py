"""The public messages of the gateway."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo

from cascade.api.common import (
    MAX_K,
    EventType,
    Id,
    Message,
    Milliseconds,
    Probability,
    Question,
    Timestamp,
    Track,
)
from cascade.api.explain import Explanation
from cascade.api.ranker import CategoryLimit, ExplorationShare, RelevanceWeight

Stage = Literal["features", "retrieval", "filter", "ranker"]


def _not_with_diversity(value: float, info: ValidationInfo) -> float:
    if info.data.get("diversity"):
        raise ValueError("mmr_lambda orders the list and diversity draws it; give one of them")
    return value


class RecommendationRequest(Question):
    """POST /v1/recommendations. Without the fields from `diversity` on, the list is the plain top k."""

    user_id: Id
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    device_type: Annotated[str, Field(max_length=128)] | None = None
    timestamp: Timestamp | None = Field(default=None, description="UTC seconds; missing means now")
    diversity: bool = Field(default=False, description="draw the list instead of taking the best")
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        default=1.0, description="of the draw: near 0 the best, large a uniform draw"
    )
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="repeats a draw or an exploration"
    )
    mmr_lambda: Annotated[RelevanceWeight, AfterValidator(_not_with_diversity)] | None = Field(
        default=None,
        description="maximal marginal relevance: 1 counts the click probability alone, towards 0 unlikeness to the "
        "items before counts more; not with diversity",
    )
    max_per_category_l1: CategoryLimit | None = Field(
        default=None, description="most items of one top category; raised where too few candidates are within it"
    )
    max_per_category_l2: CategoryLimit | None = Field(
        default=None, description="likewise, of one second-level category"
    )
    exploration: ExplorationShare = Field(
        default=0.0, description="share of places, each by chance, that go to any candidate left, each as likely"
    )
    explain: bool = Field(default=False, description="tell how the list came about: every candidate at every stage")

    @property
    def composed(self) -> bool:
        """Whether the list is put together place by place."""
        return (
            self.mmr_lambda is not None
            or self.max_per_category_l1 is not None
            or self.max_per_category_l2 is not None
            or self.exploration > 0
        )


class Item(Message):
    """An item as a shop shows it."""

    item_id: str
    title: str
    description: str
    category_l1: str
    category_l2: str
    price: float | None
    gender: str | None
    image: str | None = Field(description="path of the picture at the gateway, or null")


class RecommendedItem(Item):
    """An item in a list. `score` is a click probability, or null where the ranker did not answer."""

    score: Probability | None

    @classmethod
    def of(cls, item: Item, score: float | None) -> Self:
        """An item of the catalog at its place in a list, both valid already.

        As `model_construct` makes it, without its loop over the fields: ten of these are made for each list.
        """
        made = cls.__new__(cls)
        object.__setattr__(made, "__dict__", {**item.__dict__, "score": score})
        object.__setattr__(made, "__pydantic_fields_set__", set(cls.model_fields))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


class Timings(Message):
    """Wall time of each stage as the gateway saw it, and of the whole request."""

    features_ms: Milliseconds
    retrieval_ms: Milliseconds
    filter_ms: Milliseconds
    ranker_ms: Milliseconds
    metadata_ms: Milliseconds
    total_ms: Milliseconds


class StageVersion(Message):
    """The bundle that answered."""

    version: str
    track: Track = "stable"


class RecommendationResponse(Message):
    """A ranked list. `degraded` names the stages that were down or late; the list is there all the same.

    explanation: where it was asked for
    """

    request_id: str
    user_id: str
    items: list[RecommendedItem]
    degraded: list[Stage]
    timings: Timings
    versions: dict[str, StageVersion]
    explanation: Explanation | None = None


class InteractionRequest(Question):
    """POST /v1/interactions: a visitor met an item. 202 means it is recorded and will not be shown again."""

    user_id: Id
    item_id: Id
    event_type: EventType = "click"
    timestamp: Timestamp | None = Field(default=None, description="UTC seconds; missing means now")
    device_type: Annotated[str, Field(max_length=128)] | None = None
    request_id: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="the recommendation that showed the item"
    )


class InteractionResponse(Message):
    """The recorded event."""

    event_id: str


class ItemPage(Message):
    """GET /v1/items: one page of the catalog."""

    items: list[Item]
    total: int
    offset: int
    limit: int


class SimilarItem(Item):
    """An item with its cosine in the candidate space."""

    similarity: float


class SimilarResponse(Message):
    """GET /v1/items/{id}/similar."""

    items: list[SimilarItem]
    version: str


class PopularItem(Item):
    """An item with its number of interactions in the training days."""

    interactions: float


class PopularResponse(Message):
    """GET /v1/popular."""

    items: list[PopularItem]
    category: str | None


class DeletionResponse(Message):
    """DELETE /v1/users/{id}/history: what was removed."""

    user_id: str
    removed: dict[str, int]


class LearnedVersion(Message):
    """A model version that learned from days on which the forgotten user did something."""

    service: str
    version: str
    aliases: list[str]
    days: list[str]
    replaced: str


class ForgettingReceipt(Message):
    """DELETE /v1/users/{id} and GET /v1/forgettings/{receipt}: what was removed where.

    What is online is gone when the answer comes; `status` is `done` when every file is rewritten too.
    """

    receipt: Annotated[str, Field(description="ask for it again with GET /v1/forgettings/{receipt}")]
    status: Literal["pending", "done"]
    user: Annotated[str, Field(description="SHA-256 of the id: the receipt holds no id")]
    asked: str
    finished: str | None
    removed: Annotated[dict[str, int], Field(description="keys, entries and rows, by place")]
    days: Annotated[list[str], Field(description="days of which rows were removed")]
    checkpoints: list[LearnedVersion]
    remarks: list[str]


class InfoResponse(Message):
    """GET /v1/info: how this gateway is run. Open to everybody."""

    profile: Literal["local", "production"]
    api_keys: Literal["required", "off"]
