"""How a list came about: the same recommender over ports that keep what passes through them.

The engine knows nothing of it, and a request that does not ask for it passes none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cascade.api.common import Context, StageTiming, Track, UserFeatures
from cascade.api.explain import ExplainedCandidate, Explanation, Funnel, Outcome
from cascade.api.filter import FilterRequest, FilterResponse, SeenRequest, SeenResponse
from cascade.api.gateway import RecommendationRequest, RecommendationResponse, Stage
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from services.gateway.catalog import Catalog
from services.gateway.context import Clock, imputed_context, system_clock
from services.gateway.engine import Ports, Recommender
from services.gateway.fallbacks import unknown_user
from services.gateway.ports import FeatureSource, Ranker, Retriever, SeenFilter

Make = Callable[[Ports], Recommender]
"""A recommender over these ports, in everything else the one that serves."""


@dataclass
class Record:
    """What passed through the ports for one request.

    scores: item → dot product, in retrieval's order; dropped: ids the filter took out; ranked: item → click
    probability, best (or first drawn) first; asked: ids the ranker was given
    """

    user: UserFeatures | None = None
    scores: dict[str, float] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    ranked: dict[str, float] = field(default_factory=dict)
    timings: dict[str, StageTiming] = field(default_factory=dict)
    candidates: dict[str, None] = field(default_factory=dict)


class Explainer:
    """Answers a request as the recommender does, and tells how it came about."""

    def __init__(self, make: Make, ports: Ports, catalog: Catalog, clock: Clock = system_clock) -> None:
        self._make = make
        self._ports = ports
        self._catalog = catalog
        self._clock = clock

    async def recommend(
        self,
        request: RecommendationRequest,
        request_id: str,
        forced: Mapping[Stage, Track] | None = None,
        *,
        logged: bool = True,
    ) -> RecommendationResponse:
        """The answer with its explanation.

        forced: tracks that the request asks for, whatever the user's are
        logged: whether somebody is shown the list; otherwise no impression is written
        """
        record = Record()
        ports = replace(
            self._ports,
            features=KeptFeatures(self._ports.features, record),
            retriever=KeptRetriever(self._ports.retriever, record),
            seen_filter=KeptFilter(self._ports.seen_filter, record),
            ranker=KeptRanker(self._ports.ranker, record),
            impressions=self._ports.impressions if logged else Unlogged(),
        )
        answer = await self._make(ports).recommend(request, request_id, forced)
        context = imputed_context(request.device_type, request.timestamp, self._clock)
        return answer.model_copy(update={"explanation": self._explanation(record, request, answer, context)})

    def _explanation(
        self, record: Record, request: RecommendationRequest, answer: RecommendationResponse, context: Context
    ) -> Explanation:
        places = {item.item_id: place for place, item in enumerate(answer.items, 1)}
        # Without the ranker the list itself is all that has an order.
        ordered = (item_id for item_id in record.ranked or record.asked if item_id not in record.dropped)
        ranks = {item_id: rank for rank, item_id in enumerate(ordered, 1)}
        # With retrieval down the candidates are those that the filter was asked about.
        order = dict.fromkeys([*record.scores, *record.candidates])
        candidates = [self._candidate(item_id, rank, record, ranks, places) for rank, item_id in enumerate(order, 1)]
        return Explanation(
            user=record.user or unknown_user(request.user_id),
            context=context,
            funnel=_funnel(candidates),
            services=record.timings,
            candidates=candidates,
        )

    def _candidate(
        self, item_id: str, retrieval_rank: int, record: Record, ranks: dict[str, int], places: dict[str, int]
    ) -> ExplainedCandidate:
        item = self._catalog.get(item_id)
        return ExplainedCandidate(
            item_id=item_id,
            title=None if item is None else item.title,
            category_l1=None if item is None else item.category_l1,
            retrieval_rank=retrieval_rank,
            retrieval_score=record.scores.get(item_id),
            outcome=_outcome(item_id, item is not None, record, ranks, places),
            rank=ranks.get(item_id),
            click_probability=record.ranked.get(item_id),
            place=places.get(item_id),
        )


def _outcome(item_id: str, in_catalog: bool, record: Record, ranks: dict[str, int], places: dict[str, int]) -> Outcome:
    if item_id in places:
        return "shown"
    if item_id in record.dropped:
        return "met"
    if not in_catalog:
        return "without_metadata"
    return "below" if item_id in ranks else "unknown_to_ranker"


def _funnel(candidates: list[ExplainedCandidate]) -> Funnel:
    outcomes = [one.outcome for one in candidates]
    shown, below = outcomes.count("shown"), outcomes.count("below")
    return Funnel(
        retrieved=len(candidates),
        met=outcomes.count("met"),
        without_metadata=outcomes.count("without_metadata"),
        unknown_to_ranker=outcomes.count("unknown_to_ranker"),
        ranked=shown + below,
        shown=shown,
        below=below,
    )


@dataclass(frozen=True)
class KeptFeatures:
    """A FeatureSource that keeps the user."""

    port: FeatureSource
    record: Record

    async def get(self, user_id: str) -> UserFeatures | None:
        """See FeatureSource."""
        found = await self.port.get(user_id)
        self.record.user = found or unknown_user(user_id)
        return found


@dataclass(frozen=True)
class KeptRetriever:
    """A Retriever that asks for the scores too and keeps them."""

    port: Retriever
    record: Record

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """See Retriever."""
        found = await self.port.retrieve(request.model_copy(update={"with_scores": True}))
        self.record.scores |= dict(zip(found.item_ids, found.scores, strict=True))
        self.record.timings["retrieval"] = found.timing
        return found

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        """See Retriever."""
        return await self.port.similar(request)


@dataclass(frozen=True)
class KeptFilter:
    """A SeenFilter that keeps what it was asked about and what it took out."""

    port: SeenFilter
    record: Record

    async def unseen(self, request: FilterRequest) -> FilterResponse:
        """See SeenFilter."""
        self.record.candidates |= dict.fromkeys(request.item_ids)
        found = await self.port.unseen(request)
        self.record.dropped |= set(request.item_ids).difference(found.item_ids)
        self.record.timings["filter"] = found.timing
        return found

    async def seen(self, request: SeenRequest) -> SeenResponse:
        """See SeenFilter."""
        return await self.port.seen(request)

    async def forget(self, user_id: str) -> int:
        """See SeenFilter."""
        return await self.port.forget(user_id)


@dataclass(frozen=True)
class KeptRanker:
    """A Ranker that asks for the order of all candidates; the engine takes the first k of it.

    A list that is drawn is the beginning of one drawn whole: the same seed gives the same first k.
    """

    port: Ranker
    record: Record

    async def rank(self, request: RankRequest) -> RankResponse:
        """See Ranker."""
        self.record.asked = list(request.item_ids)
        found = await self.port.rank(request.model_copy(update={"k": max(request.k, len(request.item_ids))}))
        self.record.ranked = dict(zip(found.item_ids, found.scores, strict=True))
        self.record.timings["ranker"] = found.timing
        return found


class Unlogged:
    """Impressions of lists that nobody is shown."""

    def shown(self, make: Callable[[], bytes]) -> None:
        """See Impressions."""
