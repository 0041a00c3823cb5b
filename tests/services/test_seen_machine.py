"""A state machine over clicks, lists, resets and the passing of time, drawn by hypothesis.

Gateway and filter as they are, over a real Redis; retrieval knows the whole shop and the ranker turns it round, so that
a list of the shop's size holds every item that is not hidden.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cascade.api.common import StageTiming, UserFeatures
from cascade.api.filter import FilterRequest, FilterResponse, SeenRequest, SeenResponse
from cascade.api.gateway import InteractionRequest, RecommendationRequest
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.online.connection import connect
from cascade.online.generations import SeenShape
from cascade.online.interactions import Interactions
from cascade.serving.limit import ConcurrencyLimit
from cascade.serving.metrics import ServiceMetrics
from cascade.store.artifacts import CATALOG_COLUMNS
from services.filter.engine import FilterEngine
from services.gateway.catalog import Catalog
from services.gateway.engine import Budget, Ports, Recommender
from services.gateway.fallbacks import BundledPopularity
from services.gateway.interactions import Visitors
from services.gateway.telemetry import Telemetry

ITEMS = [f"item-{number}" for number in range(60)]
USERS = ["ann", "ben", "céline"]
TTL_S = 1000
ERROR_RATE = 0.01
NOW = 1_768_206_600.0
TIMING = StageTiming(queue_ms=0, compute_ms=0)

T = TypeVar("T")


class Behind:
    """Everything behind the gateway; the filter is the real one."""

    def __init__(self, engine: FilterEngine) -> None:
        self._engine = engine

    async def get(self, user_id: str) -> UserFeatures | None:
        return None

    async def delete(self, user_id: str) -> int:
        return 0

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        return RetrieveResponse(item_ids=ITEMS[: request.k], scores=[], version="r", timing=TIMING)

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        raise NotImplementedError

    async def unseen(self, request: FilterRequest) -> FilterResponse:
        found = await self._engine.unseen(request)
        return FilterResponse(item_ids=found.item_ids, dropped=found.dropped, timing=TIMING)

    async def seen(self, request: SeenRequest) -> SeenResponse:
        return SeenResponse(event_id=await self._engine.record(request))

    async def forget(self, user_id: str) -> int:
        return await self._engine.forget(user_id)

    async def rank(self, request: RankRequest) -> RankResponse:
        ids = request.item_ids[::-1][: request.k]
        sure = [1.0] * len(ids)
        return RankResponse(item_ids=ids, scores=sure, propensities=sure, unknown=0, version="d", timing=TIMING)

    def shown(self, make: Callable[[], bytes]) -> None:
        make()


class Counted:
    """Over all courses: items that nobody had met, and those of them that were hidden."""

    unmet = 0
    hidden = 0


def machine(redis_url: str, counted: Counted) -> type[RuleBasedStateMachine]:
    class SeenMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.now = NOW
            self.met: dict[tuple[str, str], float] = {}
            self.client = connect(redis_url, timeout_s=20, max_connections=4)
            interactions = Interactions(
                self.client, SeenShape(200, ERROR_RATE), seen_ttl_s=TTL_S, clock=lambda: self.now
            )
            metrics = ServiceMetrics("test")
            behind = Behind(FilterEngine(interactions, ConcurrencyLimit(4, 4, metrics), metrics))
            rows: dict[str, dict[str, Any]] = {one: dict.fromkeys(CATALOG_COLUMNS) | {"item_id": one} for one in ITEMS}
            for row in rows.values():
                row |= {"title": "t", "description": "d", "category_l1": "c", "category_l2": "c"}
            catalog = Catalog(rows, with_images=False)
            popular = BundledPopularity((), {}, {})
            ports = Ports(behind, behind, behind, behind, popular, behind)
            budget = Budget(len(ITEMS), len(ITEMS), 60, 60, 60, 60, 60)
            self.recommender = Recommender(ports, popular, catalog, Telemetry(metrics), budget, lambda: self.now)
            self.visitors = Visitors(behind, behind, lambda: catalog, clock=lambda: self.now)

        def run(self, work: Awaitable[T]) -> T:
            async def worked() -> T:
                return await work

            return self.loop.run_until_complete(worked())

        @initialize()
        def nobody_has_met_anything(self) -> None:
            self.run(self.client.flushall())

        @rule(user=st.sampled_from(USERS), item=st.sampled_from(ITEMS), late=st.integers(0, 5000))
        def click(self, user: str, item: str, late: int) -> None:
            """However late the event says it is: it is hidden from when it was recorded."""
            request = InteractionRequest(user_id=user, item_id=item, timestamp=int(self.now) - late)
            assert self.run(self.visitors.record(request))
            self.met[user, item] = self.now

        @rule(user=st.sampled_from(USERS))
        def reset(self, user: str) -> None:
            self.run(self.visitors.forget_history(user))
            self.met = {pair: at for pair, at in self.met.items() if pair[0] != user}
            assert self.shown(user) == set(ITEMS), "after a reset nothing is hidden"

        @rule(seconds=st.integers(1, TTL_S // 2))
        def time_passes(self, seconds: int) -> None:
            self.now += seconds

        @rule(user=st.sampled_from(USERS))
        def recommend(self, user: str) -> None:
            shown = self.shown(user)
            hidden = {item for item in ITEMS if self.met.get((user, item), -1e18) + TTL_S > self.now}
            assert not shown & hidden, "a seen item returned before its time"
            unmet = {item for item in ITEMS if (user, item) not in self.met}
            counted.unmet += len(unmet)
            counted.hidden += len(unmet - shown)

        @rule(user=st.sampled_from(USERS))
        def all_return_in_the_end(self, user: str) -> None:
            self.now += 2 * TTL_S + 1
            assert self.shown(user) == set(ITEMS)

        def shown(self, user: str) -> set[str]:
            request = RecommendationRequest(user_id=user, k=len(ITEMS))
            answer = self.run(self.recommender.recommend(request, "r"))
            assert answer.degraded == []
            ids = [item.item_id for item in answer.items]
            assert len(ids) == len(set(ids))
            return set(ids)

        @invariant()
        def others_are_not_touched(self) -> None:
            assert self.shown("somebody else") == set(ITEMS)

        def teardown(self) -> None:
            self.run(self.client.aclose())
            self.loop.close()

    return SeenMachine


@pytest.mark.timeout(300)
def test_a_seen_item_never_returns_before_its_time(redis_url: str) -> None:
    counted = Counted()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(redis_url, counted),
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert counted.unmet > 2000
    assert counted.hidden <= 2 * ERROR_RATE * counted.unmet, f"{counted.hidden} of {counted.unmet} hidden by mistake"
