"""How a list came about, and why an item is in it or not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cascade.api.common import Context, Id, Message, Probability, Question, StageTiming, Track, UserFeatures

Outcome = Literal["shown", "below", "met", "without_metadata", "unknown_to_ranker"]
"""What became of a candidate: in the list, ranked below it, met before, not in the catalog, unknown to the ranker."""

Part = Literal["user", "item", "context", "image", "text"]
PARTS: tuple[Part, ...] = ("user", "item", "context", "image", "text")

MAX_LIKED = 50


class ExplainedCandidate(Message):
    """One candidate on its way. What a stage did not decide is null; ranks and places begin with 1.

    retrieval_score: dot product, null where retrieval was down
    click_probability: null where the ranker was down
    """

    item_id: str
    title: str | None
    category_l1: str | None
    retrieval_rank: int
    retrieval_score: float | None
    outcome: Outcome
    rank: int | None = None
    click_probability: Probability | None = None
    place: int | None = None


class Funnel(Message):
    """How many candidates were left after each stage: retrieved = met + without_metadata + unknown_to_ranker + ranked,
    and ranked = shown + below."""

    retrieved: int
    met: int
    without_metadata: int
    unknown_to_ranker: int
    ranked: int
    shown: int
    below: int


class Explanation(Message):
    """How a list came about.

    user, context: as the models were asked
    services: where each service spent its time; of several calls the last
    candidates: in retrieval's order
    """

    user: UserFeatures
    context: Context
    funnel: Funnel
    services: dict[str, StageTiming]
    candidates: list[ExplainedCandidate]


class AttributionRequest(Question):
    """POST /v1/attribution at the ranker: what an item's click probability is made of.

    liked: items to compare it with
    track: which bundle is asked; without a canary, stable answers
    """

    user: UserFeatures
    context: Context
    item_id: Id
    liked: Annotated[list[Id], Field(default_factory=list, max_length=MAX_LIKED)]
    track: Track = "stable"


class PartShare(Message):
    """One part of the input.

    logit: what knowing it adds to the log-odds of a click (its Shapley value over the five parts)
    share: of the sum of all parts' absolute logits
    without: the click probability with this part alone unknown
    """

    part: Part
    logit: float
    share: Probability
    without: Probability


class LikedItem(Message):
    """An item the user liked, compared: cosines of pictures and of texts, and their mean."""

    item_id: str
    image_similarity: float
    text_similarity: float
    similarity: float


class AttributionResponse(Message):
    """Parts sum up: log-odds of click_probability = log-odds of baseline_probability + the parts' logits.

    baseline_probability: with nothing known
    liked: the most similar first; items that the bundle does not know are left out
    """

    click_probability: Probability
    baseline_probability: Probability
    parts: list[PartShare]
    liked: list[LikedItem]
    version: str
    track: Track = "stable"
