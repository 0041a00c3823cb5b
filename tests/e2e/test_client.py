"""The client against a real gateway: every method, and the document that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.client import (
    AsyncClient,
    Client,
    InteractionRequest,
    InvalidRequest,
    NoAnswer,
    NotAllowed,
    NotFound,
    Patience,
    RecommendationRequest,
    WhyRequest,
)
from tests.e2e.conftest import free_ports
from tests.libs.client.agreement import disagreements

pytestmark = pytest.mark.timeout(600)

MONDAY_MORNING = 1_768_204_800  # 2026-01-12 08:00 UTC


@pytest.fixture
def shop(system: Any, admin_key: str) -> Iterator[Client]:
    with Client(str(system.http.base_url), api_key=admin_key) as client:
        yield client


def test_the_document_that_is_served_is_the_clients(system: Any) -> None:
    assert disagreements(system.http.get("/openapi.json").json()) == []


def test_a_list_with_every_option(shop: Client, known_user: str) -> None:
    plain = shop.recommend(RecommendationRequest(user_id=known_user, timestamp=MONDAY_MORNING))
    assert len(plain.items) == 10
    assert plain.degraded == []
    composed = shop.recommend(
        RecommendationRequest(
            user_id=known_user, k=6, device_type="mobile", timestamp=MONDAY_MORNING, mmr_lambda=0.5,
            max_per_category_l1=2, exploration=0.5, seed=7, explain=True,
        ),
        tracks={"ranker": "stable"},
    )  # fmt: skip
    assert len(composed.items) == 6
    assert composed.explanation is not None
    assert composed.explanation.funnel.shown == 6
    assert composed.explanation.context.device_type == "mobile"
    drawn = RecommendationRequest(user_id=known_user, diversity=True, temperature=5.0, seed=3, timestamp=MONDAY_MORNING)
    assert shop.recommend(drawn).items == shop.recommend(drawn).items


def test_a_visit(shop: Client) -> None:
    user = "asks/through the client…"
    request = RecommendationRequest(user_id=user, timestamp=MONDAY_MORNING)
    with shop.user_events(user) as events:
        assert next(events).name == "hello"
        met = shop.recommend(request).items[0].item_id
        assert shop.interact(InteractionRequest(user_id=user, item_id=met, event_type="view")).event_id
        assert next(events).name in ("interactions", "features")
    assert met not in [item.item_id for item in shop.recommend(request).items]
    why = shop.explain(WhyRequest(user_id=user, item_id=met, timestamp=MONDAY_MORNING))
    assert (why.item.item_id, why.verdict.decided_by) == (met, "filter")
    assert shop.user(user).recent[0].item_id == met
    assert sum(shop.forget_history(user).removed.values()) >= 1
    receipt = shop.forget_user(user)
    assert receipt.status == "pending"
    assert shop.forgetting(receipt.receipt).user == receipt.user
    assert shop.user(user).recent == []


def test_the_catalog(shop: Client) -> None:
    facets = shop.facets()
    category = facets.categories[0].name
    page = shop.items(category_l1=category, limit=3)
    assert {item.category_l1 for item in page.items} == {category}
    found = page.items[0]
    assert shop.item(found.item_id) == found
    assert len(shop.similar(found.item_id, k=4).items) == 4
    assert shop.popular(category=category, k=2).category == category
    assert shop.items(q=found.title.split()[0]).total >= 1
    with pytest.raises(NotFound) as raised:
        shop.item("none such")
    assert (raised.value.kind, raised.value.errors[0].value) == ("unknown-item", "none such")


def test_models_and_operations(shop: Client, system: Any) -> None:
    models = shop.models()
    assert models.can_change
    ranker = next(one for one in models.services if one.service == "ranker")
    serving = ranker.aliases["stable"]
    assert not shop.promote("ranker", "stable").changed
    with pytest.raises(NotFound):
        shop.promote("ranker", "20200101-000000000000")
    with Client(str(system.http.base_url)) as stranger, pytest.raises(NotAllowed):
        stranger.rollback("ranker")
    assert next(one for one in shop.models().services if one.service == "ranker").aliases["stable"] == serving
    assert shop.users(limit=3).users
    assert shop.health().status == "ok"
    ready = shop.ready()
    assert ready.versions is not None
    assert set((ready.dependencies or {}).values()) == {"ready"}
    assert "cascade_requests_total" in shop.metrics()
    with shop.live() as samples:
        assert "requests_per_s" in next(samples).data


async def test_many_at_once_and_problems(system: Any) -> None:
    async with AsyncClient(str(system.http.base_url)) as shop:
        answers = await asyncio.gather(
            *(shop.recommend(RecommendationRequest(user_id=f"at-once-{number}", k=5)) for number in range(8))
        )
        assert [len(answer.items) for answer in answers] == [5] * 8
        future = InteractionRequest(user_id="u", item_id=answers[0].items[0].item_id, timestamp=4_000_000_000)
        with pytest.raises(InvalidRequest, match="timestamp"):
            await shop.interact(future)
        async with shop.live() as samples:
            assert (await anext(samples)).name == "sample"


async def test_where_nothing_listens() -> None:
    (port,) = free_ports(1)
    async with AsyncClient(f"http://127.0.0.1:{port}", patience=Patience(deadline_s=0.5)) as shop:
        with pytest.raises(NoAnswer, match="is a gateway there"):
            await shop.health()
