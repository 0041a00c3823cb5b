"""Which stage decided about an item, and by how much."""

from __future__ import annotations

import pytest

from cascade.api.explain import PARTS, AttributionRequest, AttributionResponse, LikedItem, PartShare
from cascade.api.why import WhyRequest
from cascade.online.errors import OnlineStoreDown
from cascade.online.interactions import RecentItem
from services.gateway.engine import Budget, Ports, Recommender
from services.gateway.explain import Explainer
from services.gateway.interactions import NoSuchItem
from services.gateway.ports import StageDown
from services.gateway.storefront.why import Why


class Ranker:
    """Attributions of even parts; liked items as like as they are late."""

    def __init__(self) -> None:
        self.asked: list[AttributionRequest] = []
        self.down = False

    async def attribution(self, request: AttributionRequest) -> AttributionResponse:
        self.asked.append(request)
        if self.down:
            raise StageDown("ranker", "down")
        liked = [LikedItem(item_id=one, image_similarity=1, text_similarity=0, similarity=0.5) for one in request.liked]
        parts = [PartShare(part=part, logit=0.1, share=0.2, without=0.4) for part in PARTS]
        return AttributionResponse(
            click_probability=0.5, baseline_probability=0.4, parts=parts, liked=liked, version="d1"
        )


class Recent:
    def __init__(self) -> None:
        self.items: list[RecentItem] = []
        self.down = False

    async def recent(self, user_id: str, count: int) -> list[RecentItem]:
        if self.down:
            raise OnlineStoreDown("no answer")
        return self.items


@pytest.fixture
def ranker():
    return Ranker()


@pytest.fixture
def recent():
    return Recent()


@pytest.fixture
def ask(stages, notes, catalog, make_recommender, ranker, recent):
    popular = make_recommender()._popular
    ports = Ports(
        features=stages, retriever=stages, seen_filter=stages, ranker=stages, fresh_popular=popular, impressions=stages
    )
    budget = Budget(candidates=10, deeper=30)

    def make(over):
        return Recommender(over, popular, catalog, notes, budget)

    async def asked(item_id, **fields):
        request = WhyRequest(**{"user_id": "u", "k": 3, "item_id": item_id, **fields})
        return await Why(stages, ranker, recent).explain(request, Explainer(make, ports, catalog), catalog)

    return asked


async def test_an_item_in_the_list(ask, ranker):
    answer = await ask("item-09")
    assert (answer.verdict.decided_by, answer.verdict.rank, answer.verdict.of) == ("shown", 1, 3)
    assert "place 1 of 3" in answer.verdict.sentence
    assert answer.attribution.click_probability == 0.5
    assert answer.item.title == "Crème hat 9"
    assert ranker.asked[0].item_id == "item-09"


async def test_an_item_ranked_below(ask):
    verdict = (await ask("item-00")).verdict
    assert (verdict.decided_by, verdict.rank, verdict.of) == ("ranker", 10, 10)
    assert verdict.short_by == pytest.approx(0.007)
    assert verdict.needed - verdict.value == pytest.approx(verdict.short_by)
    assert "short by 0.007" in verdict.sentence


async def test_an_item_that_was_met(ask, stages):
    stages.met = {"item-04"}
    verdict = (await ask("item-04")).verdict
    assert (verdict.decided_by, verdict.rank) == ("filter", 5)


async def test_an_item_that_retrieval_put_too_low(ask):
    verdict = (await ask("item-12")).verdict
    assert (verdict.decided_by, verdict.rank, verdict.of) == ("retrieval", 13, 10)
    assert verdict.short_by == pytest.approx(0.003)


async def test_an_item_that_retrieval_does_not_find(ask, stages):
    stages.catalog_size = 20
    verdict = (await ask("item-25")).verdict
    assert (verdict.decided_by, verdict.rank, verdict.short_by) == ("retrieval", None, None)
    assert "more than 0.010" in verdict.sentence


async def test_a_drawn_list_says_so(ask):
    verdict = (await ask("item-00", diversity=True, seed=1)).verdict
    assert (verdict.decided_by, verdict.needed) == ("ranker", None)
    assert "drawn" in verdict.sentence


async def test_with_retrieval_down_popular_items_stand_in(ask, stages):
    stages.failing["retrieval"] = StageDown("retrieval", "down")
    answer = await ask("item-02")
    assert (answer.verdict.decided_by, answer.degraded) == ("retrieval", ["retrieval"])
    among = await ask("item-01")
    assert "Popular items stood in for retrieval" in among.verdict.sentence


async def test_with_the_ranker_down_nothing_is_taken_apart(ask, stages, ranker):
    stages.failing["ranker"] = StageDown("ranker", "down")
    ranker.down = True
    answer = await ask("item-05")
    assert (answer.verdict.decided_by, answer.attribution, answer.liked) == ("ranker", None, [])


async def test_liked_items_are_those_not_refused_since(ask, ranker, recent):
    recent.items = [
        RecentItem(4, "not_interested", "item-03"),
        RecentItem(3, "add_to_cart", "item-02"),
        RecentItem(2, "click", "item-03"),
        RecentItem(1, "click", "not in the catalog"),
    ]
    answer = await ask("item-09")
    assert ranker.asked[-1].liked == ["item-02", "not in the catalog"]
    assert [(one.item_id, one.event_type) for one in answer.liked] == [("item-02", "add_to_cart")]
    recent.down = True
    assert (await ask("item-09")).liked == []


async def test_nobody_was_shown_the_list(ask, stages):
    await ask("item-09")
    assert stages.impressions == []


async def test_an_unknown_item(ask):
    with pytest.raises(NoSuchItem):
        await ask("gone")
