"""The order of the stages: features → retrieve → filter → rank → metadata, each with its stand-in.

Knows no HTTP: it talks to ports, and a port that fails names its stage in `degraded` and nothing worse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from zlib import crc32

import orjson

from cascade import deadline, tracing
from cascade.api.common import Context, Track, UserFeatures
from cascade.api.filter import FilterRequest
from cascade.api.gateway import (
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    Stage,
    StageVersion,
    Timings,
)
from cascade.api.ranker import Composition, Diversity, RankRequest
from cascade.api.retrieval import RetrieveRequest
from services.gateway.catalog import Catalog
from services.gateway.context import Clock, imputed_context, system_clock
from services.gateway.fallbacks import popular_candidates, unknown_user
from services.gateway.guard import Guard
from services.gateway.ports import (
    FeatureSource,
    Impressions,
    Observer,
    PopularItems,
    Ranker,
    Retriever,
    SeenFilter,
)
from services.gateway.tracks import ALL_STABLE, Assigned, Tracks

Answer = TypeVar("Answer")

_LAST: Stage = "ranker"
_HOUR_S = 3600
CERTAIN = 1.0
"""Propensity of an item that no chance put where it is."""


@dataclass(frozen=True)
class Budget:
    """How many candidates to look at, how long each stage may take (seconds), and which go side by side.

    total_s: for all stages together; what one takes longer the others have less, and whatever is left out is degraded
    share: of what is left, at most so much is one stage's, the last one's apart: those after it need some too
    overlap: filter and ranker are asked at once, for the plain top k; the ranker then scores met items in vain
    """

    candidates: int = 300
    deeper: int = 1000
    features_s: float = 0.15
    retrieval_s: float = 0.3
    filter_s: float = 0.15
    ranker_s: float = 0.3
    total_s: float = 0.225
    share: float = 0.6
    overlap: bool = False

    def seconds(self, stage: Stage) -> float:
        """The stage's time where nothing was spent before it."""
        return min(float(getattr(self, f"{stage}_s")), self.part(stage, self.total_s))

    def part(self, stage: Stage, left_s: float) -> float:
        """What the stage may take of so much."""
        return left_s if stage == _LAST else self.share * left_s


@dataclass(frozen=True)
class Placed:
    """An item at its place in the list. score: click probability, or None where the ranker did not answer."""

    item_id: str
    score: float | None
    propensity: float


@dataclass(frozen=True)
class Ports:
    """Everything behind the gateway. fresh_popular may fail; the Recommender is given one that does not."""

    features: FeatureSource
    retriever: Retriever
    seen_filter: SeenFilter
    ranker: Ranker
    fresh_popular: PopularItems
    impressions: Impressions


@dataclass
class Trace:
    """What happened to one request: wall time a stage (seconds), stages that failed, bundles that answered.

    assigned: the tracks it asks for
    """

    assigned: Assigned = ALL_STABLE
    seconds: dict[str, float] = field(default_factory=dict)
    degraded: list[Stage] = field(default_factory=list)
    versions: dict[str, StageVersion] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def milliseconds(self, stage: str) -> float:
        """The stage's time so far; 0 for a stage that was not asked."""
        return round(self.seconds.get(stage, 0.0) * 1000, 3)


class Recommender:
    """Answers a recommendation request, whatever is down."""

    def __init__(
        self,
        ports: Ports,
        popular: PopularItems,
        catalog: Catalog,
        observer: Observer,
        budget: Budget | None = None,
        clock: Clock = system_clock,
        tracks: Tracks | None = None,
        guard: Guard | None = None,
        served_share: float = 0.0,
    ) -> None:
        """
        tracks: the canaries that run; none: everything is stable's
        guard: the circuit breakers of the stages; none: some of its own
        served_share: of the visitors whose lists are logged with their features, as the models were served with them
        """
        self._ports = ports
        self._popular = popular
        self._catalog = catalog
        self._observer = observer
        self._budget = budget or Budget()
        self._clock = clock
        self._tracks = tracks
        self._guard = guard or Guard(observer)
        self._served_share = served_share

    async def recommend(
        self, request: RecommendationRequest, request_id: str, forced: Mapping[Stage, Track] | None = None
    ) -> RecommendationResponse:
        """The user's list, best first; `degraded` names the stages it had to do without.

        forced: tracks that the request asks for, whatever the user's are
        """
        trace = Trace() if self._tracks is None else Trace(self._tracks.assign(request.user_id, forced))
        with trace.timed("total"), deadline.within(self._budget.total_s):
            context = imputed_context(request.device_type, request.timestamp, self._clock)
            user = await self._user(request.user_id, trace)
            ranked = None
            if self._budget.overlap and not (request.diversity or request.composed):
                ranked = await self._filtered_while_ranked(user, context, request, trace)
            if ranked is None:
                candidates = await self._unseen_candidates(user, context, request.k, trace)
                ranked = await self._ranked(user, context, candidates, request, trace)
            with trace.timed("metadata"), tracing.span("metadata"):
                items = [self._show(placed) for placed in ranked]
        if ranked:
            make = partial(_impression, request_id, user, context, ranked, trace, self._served_share)
            self._ports.impressions.shown(make)
        for stage, seconds in trace.seconds.items():
            self._observer.stage(stage, seconds)
        if (span := tracing.current()) is not None:
            _describe(trace, len(items), span)
        if self._tracks is not None and trace.assigned.tracks:
            self._tracks.answered(trace.assigned, degraded=bool(trace.degraded))
        return RecommendationResponse.model_construct(
            request_id=request_id,
            user_id=request.user_id,
            items=items,
            degraded=trace.degraded,
            timings=_timings(trace),
            versions=trace.versions,
        )

    async def _user(self, user_id: str, trace: Trace) -> UserFeatures:
        found = await self._ask("features", lambda: self._ports.features.get(user_id), trace)
        return found or unknown_user(user_id)

    async def _unseen_candidates(self, user: UserFeatures, context: Context, k: int, trace: Trace) -> list[str]:
        """Candidates the user has not met; where fewer than k are left, looked for once more and deeper."""
        depth = max(self._budget.candidates, k)
        candidates = await self._candidates(user, context, depth, trace)
        unseen = await self._unseen(user.user_id, candidates, trace)
        more_may_exist = len(candidates) >= depth and depth < self._budget.deeper
        if len(unseen) >= k or not more_may_exist:
            return self._known(unseen)
        looked_at = set(candidates)
        deeper = await self._candidates(user, context, self._budget.deeper, trace)
        fresh = [item_id for item_id in deeper if item_id not in looked_at]
        return self._known(unseen + await self._unseen(user.user_id, fresh, trace))

    async def _filtered_while_ranked(
        self, user: UserFeatures, context: Context, request: RecommendationRequest, trace: Trace
    ) -> list[Placed] | None:
        """The list, filter and ranker asked at once; None where it has to be looked for deeper."""
        depth = max(self._budget.candidates, request.k)
        candidates = await self._candidates(user, context, depth, trace)
        known = self._known(candidates)
        unseen, ranked = await asyncio.gather(
            self._unseen(user.user_id, candidates, trace),
            self._ranked(user, context, known, request.model_copy(update={"k": len(known)}), trace),
        )
        if len(unseen) < request.k and len(candidates) >= depth and depth < self._budget.deeper:
            return None
        left = set(unseen)
        return [placed for placed in ranked if placed.item_id in left][: request.k]

    async def _candidates(self, user: UserFeatures, context: Context, count: int, trace: Trace) -> list[str]:
        track = trace.assigned.of("retrieval")
        request = RetrieveRequest(user=user, context=context, k=count, with_scores=False, track=track)
        found = await self._ask("retrieval", lambda: self._ports.retriever.retrieve(request), trace)
        if found is None:
            with trace.timed("retrieval"), tracing.span("popular"):
                return await popular_candidates(self._popular, user, count)
        trace.versions["retrieval"] = StageVersion(version=found.version, track=found.track)
        return found.item_ids

    async def _unseen(self, user_id: str, item_ids: list[str], trace: Trace) -> list[str]:
        if not item_ids:
            return []
        # model_construct: the ids come from a bundle, and the filter checks them again.
        request = FilterRequest.model_construct(user_id=user_id, item_ids=item_ids)
        found = await self._ask("filter", lambda: self._ports.seen_filter.unseen(request), trace)
        return item_ids if found is None else found.item_ids

    def _known(self, item_ids: list[str]) -> list[str]:
        """Only items that can be shown; before ranking, so that the list still reaches k."""
        known, unknown = self._catalog.split(item_ids)
        if unknown:
            self._observer.without_metadata(unknown)
        return known

    async def _ranked(
        self,
        user: UserFeatures,
        context: Context,
        item_ids: list[str],
        request: RecommendationRequest,
        trace: Trace,
    ) -> list[Placed]:
        if not item_ids:
            return []
        diversity, composition = _reranking(request)
        rank = RankRequest.model_construct(
            user=user,
            context=context,
            item_ids=item_ids,
            k=request.k,
            diversity=diversity,
            composition=composition,
            track=trace.assigned.of("ranker"),
        )
        found = await self._ask("ranker", lambda: self._ports.ranker.rank(rank), trace)
        if found is None:
            return [Placed(item_id, None, CERTAIN) for item_id in item_ids[: request.k]]
        trace.versions["ranker"] = StageVersion(version=found.version, track=found.track)
        return list(map(Placed, found.item_ids, found.scores, found.propensities))[: request.k]

    def _show(self, placed: Placed) -> RecommendedItem:
        item = self._catalog.get(placed.item_id)
        if item is None:
            raise KeyError(placed.item_id)
        return RecommendedItem.of(item, placed.score)

    async def _ask(self, stage: Stage, call: Callable[[], Awaitable[Answer]], trace: Trace) -> Answer | None:
        """The stage's answer within its time; None, and the stage named as degraded, when there is none.

        A stage that failed once is not asked again for this request: its time is spent.
        """
        if stage in trace.degraded:
            return None
        try:
            left_s = deadline.at_most(self._budget.total_s)
            with trace.timed(stage), tracing.span(stage), deadline.within(self._budget.part(stage, left_s)):
                return await self._guard.ask(stage, self._budget.seconds(stage), call)
        except Exception as error:  # a defect below must not cost the visitor the list; the observer tells it
            trace.degraded.append(stage)
            self._observer.degraded(stage, error)
            tracing.event("degraded", {"cascade.stage": stage, "error.type": type(error).__name__})
            return None


def _reranking(request: RecommendationRequest) -> tuple[Diversity | None, Composition | None]:
    """How the list is drawn or put together; neither for the plain top k."""
    if request.composed:
        composition = Composition(
            mmr_lambda=request.mmr_lambda,
            temperature=request.temperature if request.diversity else None,
            max_per_category_l1=request.max_per_category_l1,
            max_per_category_l2=request.max_per_category_l2,
            exploration=request.exploration,
            seed=request.seed,
        )
        return None, composition
    return (Diversity(temperature=request.temperature, seed=request.seed) if request.diversity else None), None


def _impression(
    request_id: str, user: UserFeatures, context: Context, shown: Sequence[Placed], trace: Trace, served_share: float
) -> bytes:
    """The JSON of an api.impressions.Impression, written directly: every value was validated where it came in."""
    return orjson.dumps(
        {
            "request_id": request_id,
            "user_id": user.user_id,
            "timestamp": context.timestamp,
            "device_type": context.device_type,
            "items": [
                {
                    "item_id": placed.item_id,
                    "position": position,
                    "score": placed.score,
                    "propensity": placed.propensity,
                }
                for position, placed in enumerate(shown)
            ],
            "versions": {stage: answered.version for stage, answered in trace.versions.items()},
            "tracks": {stage: answered.track for stage, answered in trace.versions.items()},
            **trace.assigned.as_dict(),
            **({"served": _served(user)} if is_sampled(user.user_id, context.timestamp, served_share) else {}),
        }
    )


def is_sampled(user_id: str, timestamp: int, share: float) -> bool:
    """Whether a visitor is one of the share whose features are logged, by a hash of user and hour.

    By visitors and not by lists: whoever asks for many would be in the sample more often than in training.
    """
    return crc32(f"{timestamp // _HOUR_S} {user_id}".encode()) < share * 2**32


def _served(user: UserFeatures) -> dict[str, object]:
    """The JSON of an api.impressions.Served."""
    return {
        "age": user.age,
        "gender": user.gender,
        "top_category": user.top_category,
        "recent": len(user.recent),
    }


def _describe(trace: Trace, items: int, span: tracing.Span) -> None:
    """What a trace tells of a list: how long it is, what it was made without, and which bundles made it."""
    versions = {f"cascade.{stage}.version": answered.version for stage, answered in trace.versions.items()}
    tracks = {f"cascade.{stage}.track": answered.track for stage, answered in trace.versions.items()}
    span.note({"cascade.items": items, "cascade.degraded": list(trace.degraded), **versions, **tracks})


def _timings(trace: Trace) -> Timings:
    return Timings(
        features_ms=trace.milliseconds("features"),
        retrieval_ms=trace.milliseconds("retrieval"),
        filter_ms=trace.milliseconds("filter"),
        ranker_ms=trace.milliseconds("ranker"),
        metadata_ms=trace.milliseconds("metadata"),
        total_ms=trace.milliseconds("total"),
    )
