"""Why an item is in a list, or is not: what decided, by how much, what the score is made of. Knows no HTTP."""

from __future__ import annotations

from typing import Protocol, cast

from cascade.api.common import MAX_CANDIDATES, EventType, Track
from cascade.api.explain import AttributionRequest, AttributionResponse, ExplainedCandidate, Explanation
from cascade.api.gateway import RecommendationRequest, RecommendationResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse
from cascade.api.why import LikedNeighbour, Verdict, WhyRequest, WhyResponse
from cascade.errors import CascadeError
from cascade.features.spec import NEGATIVE_EVENT_TYPES
from cascade.online.interactions import RecentItem
from services.gateway.catalog import Catalog
from services.gateway.explain import Explainer
from services.gateway.interactions import NoSuchItem
from services.gateway.ports import Retriever, StageError
from services.gateway.storefront.users import RecentItems

_LIKED_COMPARED = 50
_LIKED_SHOWN = 4


class Attributor(Protocol):
    """The ranker's view of one item. Raises StageError."""

    async def attribution(self, request: AttributionRequest) -> AttributionResponse: ...


class Why:
    """Answers by making the list anew, unlogged."""

    def __init__(self, retriever: Retriever, attributor: Attributor, recent: RecentItems) -> None:
        self._retriever = retriever
        self._attributor = attributor
        self._recent = recent

    async def explain(self, request: WhyRequest, explainer: Explainer, catalog: Catalog) -> WhyResponse:
        """Why the item is there or not. Raises NoSuchItem where the catalog does not hold it."""
        item = catalog.get(request.item_id)
        if item is None:
            raise NoSuchItem("item_id", request.item_id, "no item of the catalog has this id")
        asked = RecommendationRequest(**{**request.model_dump(exclude={"item_id"}), "explain": True})
        answer = await explainer.recommend(asked, "", logged=False)
        explanation = answer.explanation
        if explanation is None:
            raise AssertionError("an explainer explains")
        candidate = next((one for one in explanation.candidates if one.item_id == request.item_id), None)
        if candidate is None:
            verdict = await self._not_retrieved(request.item_id, answer, explanation)
        else:
            verdict = _decided(candidate, request, answer, explanation)
        liked = await self._liked(request.user_id)
        attribution = await self._attribution(request.item_id, explanation, liked, _track(answer, "ranker"))
        return WhyResponse(
            item=item,
            verdict=verdict,
            attribution=attribution,
            liked=[] if attribution is None else _neighbours(attribution, liked, catalog),
            degraded=answer.degraded,
        )

    async def _not_retrieved(self, item_id: str, answer: RecommendationResponse, explanation: Explanation) -> Verdict:
        """How far it was from being a candidate, as far as the index tells."""
        scores = [one.retrieval_score for one in explanation.candidates if one.retrieval_score is not None]
        if "retrieval" in answer.degraded or not scores:
            sentence = "Retrieval gave no answer: popular items stood in for its candidates, and this is none of them."
            return Verdict(decided_by="retrieval", sentence=sentence)
        needed, went_on = min(scores), len(explanation.candidates)
        try:
            found = await self._deeper(explanation, _track(answer, "retrieval"))
        except StageError:
            sentence = f"It is not among retrieval's {went_on:,} candidates, and retrieval does not answer now."
            return Verdict(decided_by="retrieval", of=went_on, needed=needed, sentence=sentence)
        if item_id in found.item_ids:
            at = found.item_ids.index(item_id)
            value = found.scores[at]
            sentence = (
                f"Retrieval put it at rank {at + 1:,}, and {went_on:,} candidates go on. "
                f"Its score {value:.3f} is short of the last candidate's {needed:.3f} by {needed - value:.3f}."
            )
            return Verdict(
                decided_by="retrieval", rank=at + 1, of=went_on, value=value, needed=needed,
                short_by=needed - value, sentence=sentence,
            )  # fmt: skip
        last = found.scores[-1] if found.scores else needed
        sentence = (
            f"It is not among retrieval's first {len(found.item_ids):,}, and {went_on:,} candidates go on. It is short "
            f"of the last candidate's score {needed:.3f} by more than {needed - last:.3f}."
        )
        return Verdict(decided_by="retrieval", of=went_on, needed=needed, sentence=sentence)

    async def _deeper(self, explanation: Explanation, track: Track) -> RetrieveResponse:
        request = RetrieveRequest(user=explanation.user, context=explanation.context, k=MAX_CANDIDATES, track=track)
        return await self._retriever.retrieve(request)

    async def _liked(self, user_id: str) -> dict[str, RecentItem]:
        """The user's latest interactions that were no refusal, by item; none where the store does not answer."""
        try:
            recent = await self._recent.recent(user_id, _LIKED_COMPARED)
        except CascadeError:
            return {}
        liked: dict[str, RecentItem] = {}
        refused: set[str] = set()
        for one in recent:  # the newest decides
            if one.item_id in liked or one.item_id in refused:
                continue
            if one.event_type in NEGATIVE_EVENT_TYPES:
                refused.add(one.item_id)
            else:
                liked[one.item_id] = one
        return liked

    async def _attribution(
        self, item_id: str, explanation: Explanation, liked: dict[str, RecentItem], track: Track
    ) -> AttributionResponse | None:
        request = AttributionRequest(
            user=explanation.user, context=explanation.context, item_id=item_id, liked=list(liked), track=track
        )
        try:
            return await self._attributor.attribution(request)
        except StageError:
            return None


def _track(answer: RecommendationResponse, service: str) -> Track:
    """The track that made the list, which explains it too."""
    answered = answer.versions.get(service)
    return "stable" if answered is None else answered.track


def _decided(
    candidate: ExplainedCandidate, request: WhyRequest, answer: RecommendationResponse, explanation: Explanation
) -> Verdict:
    """What became of a candidate."""
    of = explanation.funnel.retrieved
    who = "Popular items stood in for retrieval's, which" if "retrieval" in answer.degraded else "Retrieval"
    from_retrieval = f"{who} had it at rank {candidate.retrieval_rank:,} of {of:,}."
    if candidate.outcome == "met":
        sentence = f"This visitor met it lately, and the filter leaves out what was met. {from_retrieval}"
        return Verdict(decided_by="filter", rank=candidate.retrieval_rank, of=of, sentence=sentence)
    if candidate.outcome in ("without_metadata", "unknown_to_ranker"):
        sentence = f"The ranker's bundle does not hold it yet, or did not rank it. {from_retrieval}"
        return Verdict(decided_by="catalog", rank=candidate.retrieval_rank, of=of, sentence=sentence)
    value, ranked = candidate.click_probability, explanation.funnel.ranked
    if candidate.outcome == "shown":
        score = "without a score" if value is None else f"with click probability {value:.3f}"
        sentence = f"It is at place {candidate.place} of {len(answer.items)}, {score}. {from_retrieval}"
        return Verdict(decided_by="shown", rank=candidate.place, of=len(answer.items), value=value, sentence=sentence)
    needed = min((item.score for item in answer.items if item.score is not None), default=None)
    if request.diversity or value is None or needed is None:
        how = "The list was drawn, and it came" if request.diversity else "Without the ranker it is"
        sentence = f"{how} at place {candidate.rank:,} of {ranked:,}; {len(answer.items)} are shown. {from_retrieval}"
        return Verdict(decided_by="ranker", rank=candidate.rank, of=ranked, value=value, sentence=sentence)
    sentence = (
        f"The ranker put it at {candidate.rank:,} of {ranked:,} with click probability {value:.3f}; the last one shown "
        f"has {needed:.3f}, so it is short by {needed - value:.3f}. {from_retrieval}"
    )
    return Verdict(
        decided_by="ranker", rank=candidate.rank, of=ranked, value=value, needed=needed, short_by=needed - value,
        sentence=sentence,
    )  # fmt: skip


def _neighbours(
    attribution: AttributionResponse, liked: dict[str, RecentItem], catalog: Catalog
) -> list[LikedNeighbour]:
    shown = []
    for one in attribution.liked[:_LIKED_SHOWN]:
        item = catalog.get(one.item_id)
        if item is not None:
            shown.append(
                LikedNeighbour(
                    **item.model_dump(),
                    event_type=cast(EventType, liked[one.item_id].event_type),
                    image_similarity=one.image_similarity,
                    text_similarity=one.text_similarity,
                    similarity=one.similarity,
                )
            )
    return shown
