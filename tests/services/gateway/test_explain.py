"""An explained list is the plain one, and its candidates sum to it."""

from __future__ import annotations

from collections import Counter

import pytest

from cascade.api.common import UserFeatures
from cascade.api.gateway import RecommendationRequest
from services.gateway.engine import Budget, Ports, Recommender
from services.gateway.explain import Explainer
from services.gateway.ports import StageDown


@pytest.fixture
def make_explainer(stages, notes, catalog, make_recommender):
    """An explainer over the fakes, beside the plain recommender of the same budget."""

    def make(**budget):
        plain = make_recommender(**budget)
        ports = Ports(
            features=stages, retriever=stages, seen_filter=stages, ranker=stages,
            fresh_popular=plain._popular, impressions=stages,
        )  # fmt: skip
        numbers = Budget(**{"candidates": 20, "deeper": 30, **budget})

        def recommender(over):
            return Recommender(over, plain._popular, catalog, notes, numbers, lambda: 1_768_206_600.5)

        return plain, Explainer(recommender, ports, catalog, lambda: 1_768_206_600.5)

    return make


async def both(make, request, **budget):
    plain, explainer = make(**budget)
    return await plain.recommend(request, "r"), await explainer.recommend(request, "r")


def sums(answer):
    """The counts of an explanation, held to its candidates and to the list."""
    funnel, candidates = answer.explanation.funnel, answer.explanation.candidates
    outcomes = Counter(one.outcome for one in candidates)
    assert funnel.retrieved == len(candidates) == len({one.item_id for one in candidates})
    assert funnel.retrieved == funnel.met + funnel.without_metadata + funnel.unknown_to_ranker + funnel.ranked
    assert funnel.ranked == funnel.shown + funnel.below
    assert {name: outcomes[name] for name in ("met", "shown", "below")} == {
        name: getattr(funnel, name) for name in ("met", "shown", "below")
    }
    in_list = {one.item_id: one for one in candidates if one.outcome == "shown"}
    assert len(in_list) == len(answer.items)
    for place, item in enumerate(answer.items, 1):
        assert in_list[item.item_id].place == place
        assert in_list[item.item_id].click_probability == item.score
    return funnel


@pytest.mark.parametrize("overlap", [False, True])
async def test_the_same_list_and_every_candidate_accounted_for(make_explainer, stages, overlap):
    stages.met = {"item-03", "item-19"}
    stages.extra_candidates = ["no such item"]
    stages.features["u"] = UserFeatures(user_id="u", top_category="shoes")

    plain, explained = await both(make_explainer, RecommendationRequest(user_id="u", k=5), overlap=overlap)

    assert [one.item_id for one in explained.items] == [one.item_id for one in plain.items]
    assert plain.explanation is None
    funnel = sums(explained)
    assert (funnel.retrieved, funnel.met, funnel.without_metadata, funnel.shown) == (20, 1, 1, 5)
    first = explained.explanation.candidates[1]
    assert (first.item_id, first.retrieval_rank, first.retrieval_score) == ("item-00", 2, pytest.approx(0.999))
    assert first.rank == funnel.ranked
    assert explained.explanation.user.top_category == "shoes"
    assert set(explained.explanation.services) == {"retrieval", "filter", "ranker"}


async def test_a_drawn_list_is_explained_with_its_draw(make_explainer):
    request = RecommendationRequest(user_id="u", k=4, diversity=True, seed=3)
    plain, explained = await both(make_explainer, request)
    assert [one.item_id for one in explained.items] == [one.item_id for one in plain.items]
    sums(explained)


async def test_deeper_candidates_are_told_too(make_explainer, stages):
    stages.met = {f"item-{number:02}" for number in range(18)}
    _, explained = await both(make_explainer, RecommendationRequest(user_id="u", k=5))
    funnel = sums(explained)
    assert (funnel.retrieved, funnel.met) == (30, 18)


@pytest.mark.parametrize("stage", ["features", "retrieval", "filter", "ranker"])
async def test_a_degraded_list_is_explained_as_far_as_it_goes(make_explainer, stages, stage):
    stages.failing[stage] = StageDown(stage, "down")
    plain, explained = await both(make_explainer, RecommendationRequest(user_id="u", k=5))
    assert [one.item_id for one in explained.items] == [one.item_id for one in plain.items]
    assert explained.degraded == [stage]
    sums(explained)


async def test_impressions_only_where_somebody_is_shown_the_list(make_explainer, stages):
    _, explainer = make_explainer()
    request = RecommendationRequest(user_id="u", k=5)
    await explainer.recommend(request, "r")
    assert len(stages.impressions) == 1
    await explainer.recommend(request, "r", logged=False)
    assert len(stages.impressions) == 1


async def test_over_http(client):
    body = {"user_id": "u-1", "k": 3}
    plain = (await client.post("/v1/recommendations", json=body)).json()
    explained = (await client.post("/v1/recommendations", json={**body, "explain": True})).json()
    assert plain["explanation"] is None
    assert explained["items"] == plain["items"]
    assert explained["explanation"]["funnel"]["shown"] == 3
