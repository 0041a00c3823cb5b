"""The order of the stages, and what each does without."""

import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings

from cascade.api.common import UserFeatures
from cascade.api.gateway import RecommendationRequest
from cascade.api.impressions import Impression, Served
from cascade.api.ranker import Composition
from cascade.errors import CascadeError
from cascade.online.errors import OnlineStoreDown
from services.gateway.engine import is_sampled
from services.gateway.ports import StageDown, StageLate, StageRefused

pytestmark = pytest.mark.asyncio


def ids(answer):
    return [item.item_id for item in answer.items]


def ask(user="u-1", **fields):
    return RecommendationRequest(user_id=user, **{"k": 5, **fields})


async def test_goes_through_all_stages(make_recommender, stages, notes):
    stages.features["u-1"] = UserFeatures(user_id="u-1", age=30, gender="f", top_category="hats")
    answer = await make_recommender().recommend(ask(device_type="mobile", timestamp=1_768_000_000), "req-1")
    assert ids(answer) == ["item-19", "item-18", "item-17", "item-16", "item-15"]
    assert answer.items[0].title == "Crème hat 19"
    assert answer.items[0].score == 0.9
    assert (answer.request_id, answer.user_id, answer.degraded) == ("req-1", "u-1", [])
    assert {stage: version.version for stage, version in answer.versions.items()} == {
        "retrieval": "r1",
        "ranker": "d1",
    }
    (retrieval,) = stages.retrievals
    assert (retrieval.k, retrieval.user.top_category) == (20, "hats")
    assert (retrieval.context.device_type, retrieval.context.timestamp) == ("mobile", 1_768_000_000)
    assert stages.ranks[0].user == retrieval.user
    assert set(notes.stages) == {"features", "retrieval", "filter", "ranker", "metadata", "total"}
    assert answer.timings.total_ms >= answer.timings.ranker_ms


@pytest.mark.parametrize("device", [None, "fridge", ""])
async def test_context_is_imputed(make_recommender, stages, now, device):
    await make_recommender().recommend(ask(device_type=device), "r")
    assert stages.retrievals[0].context.device_type is None
    assert stages.retrievals[0].context.timestamp == now


async def test_unknown_user_is_no_failure(make_recommender, stages):
    answer = await make_recommender().recommend(ask("nobody"), "r")
    assert answer.degraded == []
    assert stages.ranks[0].user == UserFeatures(user_id="nobody")


async def test_top_category_stays_where_age_and_gender_are_unknown(make_recommender, stages):
    stages.features["new"] = UserFeatures(user_id="new", top_category="shoes")
    await make_recommender().recommend(ask("new"), "r")
    assert stages.ranks[0].user == UserFeatures(user_id="new", top_category="shoes")


async def test_latest_interactions_go_to_retrieval_and_ranker(make_recommender, stages):
    stages.features["u-1"] = UserFeatures(user_id="u-1", age=30, recent=["9|view|item-1"])
    await make_recommender().recommend(ask(), "r")
    assert stages.retrievals[0].user.recent == ["9|view|item-1"]
    assert stages.ranks[0].user == UserFeatures(user_id="u-1", age=30, recent=["9|view|item-1"])


async def test_without_features_the_user_is_unknown(make_recommender, stages, notes):
    stages.features["u-1"] = UserFeatures(user_id="u-1", age=30)
    stages.failing["features"] = OnlineStoreDown("gone")
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["features"]
    assert len(answer.items) == 5
    assert stages.ranks[0].user.age is None
    assert notes.failures[0][0] == "features"


async def test_without_retrieval_popular_items_of_the_top_category_come_first(make_recommender, stages):
    stages.features["u-1"] = UserFeatures(user_id="u-1", top_category="shoes")
    stages.failing = {"retrieval": StageDown("retrieval", "refused"), "ranker": StageDown("ranker", "refused")}
    answer = await make_recommender().recommend(ask(k=17), "r")
    assert answer.degraded == ["retrieval", "ranker"]
    assert ids(answer)[:15] == [f"item-{number:02}" for number in range(28, -1, -2)]
    assert ids(answer)[15:] == ["item-01", "item-03"]


async def test_without_retrieval_and_top_category_the_whole_shop_counts(make_recommender, stages):
    stages.failing = {"retrieval": StageDown("retrieval", "x"), "ranker": StageDown("ranker", "x")}
    answer = await make_recommender().recommend(ask(k=2), "r")
    assert ids(answer) == ["item-01", "item-03"]
    assert "retrieval" not in answer.versions


async def test_popular_items_are_filtered_and_ranked_too(make_recommender, stages):
    stages.failing["retrieval"] = StageDown("retrieval", "x")
    stages.met = {"item-01"}
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["retrieval"]
    assert "item-01" not in stages.ranks[0].item_ids
    assert all(item.score is not None for item in answer.items)


async def test_without_filter_nothing_is_left_out(make_recommender, stages):
    stages.met = {"item-19"}
    stages.failing["filter"] = StageDown("filter", "x")
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["filter"]
    assert ids(answer)[0] == "item-19"


async def test_without_ranker_retrieval_decides(make_recommender, stages):
    stages.failing["ranker"] = StageDown("ranker", "x")
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["ranker"]
    assert ids(answer) == [f"item-{number:02}" for number in range(5)]
    assert [item.score for item in answer.items] == [None] * 5


async def test_everything_down_still_answers(make_recommender, stages):
    stages.failing = {
        "features": CascadeError("x"),
        **{stage: StageDown(stage, "x") for stage in ("retrieval", "filter", "ranker")},
    }
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["features", "retrieval", "filter", "ranker"]
    assert len(answer.items) == 5


@pytest.mark.parametrize("stage", ["features", "retrieval", "filter", "ranker"])
async def test_a_stage_that_hangs_is_late(make_recommender, stages, notes, stage):
    stages.slow.add(stage)
    answer = await make_recommender(**{f"{stage}_s": 0.01}).recommend(ask(), "r")
    assert answer.degraded == [stage]
    assert len(answer.items) == 5
    ((noted, error),) = notes.failures
    assert noted == stage
    assert isinstance(error, StageLate)


async def test_a_defect_in_a_stage_costs_no_list_and_is_told(make_recommender, stages, notes):
    stages.failing = {"filter": StageRefused("filter", "422", 422), "ranker": ZeroDivisionError()}
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["filter", "ranker"]
    assert [type(error) for _, error in notes.failures] == [StageRefused, ZeroDivisionError]


async def test_met_items_never_show(make_recommender, stages):
    stages.met = {"item-19", "item-18"}
    answer = await make_recommender().recommend(ask(), "r")
    assert ids(answer)[0] == "item-17"
    assert len(stages.retrievals) == 1


async def test_looks_deeper_once_when_too_few_are_left(make_recommender, stages):
    stages.met = {f"item-{number:02}" for number in range(18)}
    answer = await make_recommender().recommend(ask(), "r")
    assert [one.k for one in stages.retrievals] == [20, 30]
    # What was filtered already is not filtered again.
    assert stages.filters[1].item_ids == [f"item-{number:02}" for number in range(20, 30)]
    assert ids(answer) == ["item-29", "item-28", "item-27", "item-26", "item-25"]
    assert stages.ranks[0].item_ids == [f"item-{number:02}" for number in range(18, 30)]
    assert len(stages.ranks) == 1


async def test_does_not_look_deeper_than_the_catalog(make_recommender, stages):
    stages.catalog_size = 10
    stages.met = {f"item-{number:02}" for number in range(8)}
    answer = await make_recommender().recommend(ask(), "r")
    assert len(stages.retrievals) == 1
    assert ids(answer) == ["item-09", "item-08"]


async def test_everything_met_gives_an_empty_list(make_recommender, stages):
    stages.met = {f"item-{number:02}" for number in range(30)}
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.items == []
    assert answer.degraded == []
    assert stages.ranks == []


async def test_retrieval_that_fails_when_asked_deeper_leaves_its_first_answer(make_recommender, stages):
    stages.met = {f"item-{number:02}" for number in range(18)}
    first = stages.retrieve

    async def once(request):
        if stages.retrievals:
            raise StageDown("retrieval", "gone meanwhile")
        return await first(request)

    stages.retrieve = once
    answer = await make_recommender().recommend(ask(), "r")
    assert answer.degraded == ["retrieval"]
    assert stages.ranks[0].item_ids[:2] == ["item-18", "item-19"]
    assert len(answer.items) == 5


async def test_items_without_metadata_are_dropped_before_ranking_and_told(make_recommender, stages, notes):
    stages.extra_candidates = ["gone-1", "gone-2"]
    answer = await make_recommender().recommend(ask(), "r")
    assert notes.dropped == ["gone-1", "gone-2"]
    assert "gone-1" not in stages.ranks[0].item_ids
    assert len(answer.items) == 5


async def test_diversity_reaches_the_ranker(make_recommender, stages):
    await make_recommender().recommend(ask(diversity=True, temperature=0.5, seed=3), "r")
    await make_recommender().recommend(ask(), "r")
    with_it, without = (one.diversity for one in stages.ranks)
    assert (with_it.temperature, with_it.seed) == (0.5, 3)
    assert without is None


async def test_rules_of_the_list_reach_the_ranker_in_place_of_diversity(make_recommender, stages):
    rules = {"mmr_lambda": 0.5, "max_per_category_l1": 3, "max_per_category_l2": 2, "exploration": 0.1, "seed": 4}
    await make_recommender(overlap=True).recommend(ask(k=5, **rules), "r")
    await make_recommender().recommend(ask(diversity=True, temperature=0.5, max_per_category_l1=3), "r")
    ordered, drawn = stages.ranks
    assert ordered.composition == Composition(**rules)
    assert drawn.composition == Composition(temperature=0.5, max_per_category_l1=3)
    assert (ordered.diversity, drawn.diversity) == (None, None)
    assert ordered.k == 5


async def test_what_was_shown_is_logged_with_the_chance_it_had(make_recommender, stages):
    request = ask(k=3, device_type="Mobile", timestamp=1_768_000_000, diversity=True, seed=1)
    answer = await make_recommender().recommend(request, "req-9")
    (impression,) = stages.impressions
    assert Impression.model_validate_json(impression.model_dump_json()) == impression
    assert (impression.request_id, impression.user_id) == ("req-9", "u-1")
    assert (impression.timestamp, impression.device_type) == (1_768_000_000, "mobile")
    assert [item.item_id for item in impression.items] == ids(answer)
    assert [item.position for item in impression.items] == [0, 1, 2]
    assert [item.score for item in impression.items] == [item.score for item in answer.items]
    assert [item.propensity for item in impression.items] == [1 / 2, 1 / 3, 1 / 4]
    assert impression.versions == {"retrieval": "r1", "ranker": "d1"}
    assert impression.tracks == {"retrieval": "stable", "ranker": "stable"}


async def test_of_a_sample_it_is_logged_what_the_models_were_served_with(make_recommender, stages):
    users = [f"u-{number}" for number in range(400)]
    told = {"age": 40, "gender": "f", "top_category": "hats", "recent": ["1|view|item-01"]}
    stages.features = {user: UserFeatures(user_id=user, **told) for user in users}
    recommender = make_recommender(served_share=0.25)
    for user in users:
        await recommender.recommend(ask(user, k=1), "r")
    stages.failing = {"features": StageDown("features", "x")}
    for user in users:
        await recommender.recommend(ask(user, k=1), "r")

    known, unknown = ([one.served for one in part] for part in (stages.impressions[:400], stages.impressions[400:]))
    sampled = [one for one in known if one is not None]
    assert 60 < len(sampled) < 140
    assert set(map(type, known)) == {Served, type(None)}
    assert {one.model_dump_json() for one in sampled} == {'{"age":40.0,"gender":"f","top_category":"hats","recent":1}'}
    assert [one is None for one in unknown] == [one is None for one in known], "a visitor is in the sample or not"
    nobody = Served(age=None, gender=None, top_category=None, recent=0)
    assert all(one in (None, nobody) for one in unknown), "what the models saw where the features were down"


async def test_each_hour_has_a_sample_of_its_own():
    hours = [[is_sampled(f"u{n}", hour * 3600 + 59, 0.25) for n in range(1000)] for hour in range(2)]
    assert [200 < sum(one) < 300 for one in hours] == [True, True]
    assert hours[0] != hours[1]
    assert [is_sampled(f"u{n}", 3599, 0.25) for n in range(1000)] == hours[0], "the whole hour through"


@pytest.mark.parametrize(("share", "logged"), [(0.0, 0), (1.0, 50)])
async def test_all_or_none_are_logged_with_their_features(make_recommender, stages, share, logged):
    recommender = make_recommender(served_share=share)
    for number in range(50):
        await recommender.recommend(ask(f"u-{number}", k=1), "r")

    assert sum(one.served is not None for one in stages.impressions) == logged


async def test_a_list_that_no_chance_made_has_propensity_one(make_recommender, stages, now):
    await make_recommender().recommend(ask(), "r")
    stages.failing = {"retrieval": StageDown("retrieval", "x"), "ranker": StageDown("ranker", "x")}
    await make_recommender().recommend(ask(diversity=True), "r")
    ranked, degraded = stages.impressions
    assert [item.propensity for item in ranked.items] == [1.0] * 5
    assert [(item.score, item.propensity) for item in degraded.items] == [(None, 1.0)] * 5
    assert (degraded.versions, degraded.tracks) == ({}, {})
    assert degraded.timestamp == now


async def test_an_empty_list_was_not_shown(make_recommender, stages):
    stages.met = {f"item-{number:02}" for number in range(30)}
    await make_recommender().recommend(ask(), "r")
    assert stages.impressions == []


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    met=strategies.sets(strategies.integers(0, 29)),
    down=strategies.sets(strategies.sampled_from(["features", "retrieval", "ranker"])),
    k=strategies.integers(1, 30),
    top=strategies.sampled_from([None, "shoes", "hats", "no such category"]),
)
async def test_a_list_holds_no_item_twice_and_none_that_was_met(make_recommender, stages, met, down, k, top):
    stages.met = {f"item-{number:02}" for number in met}
    stages.failing = {stage: StageDown(stage, "x") for stage in down}
    stages.features["u-1"] = UserFeatures(user_id="u-1", top_category=top)
    answer = await make_recommender().recommend(ask(k=k), "r")
    shown = ids(answer)
    assert len(shown) == len(set(shown)) == min(k, 30 - len(met))
    assert not stages.met & set(shown)
    asked = {"features", "retrieval"} | ({"ranker"} if shown else set())
    assert set(answer.degraded) == down & asked


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(
    met=strategies.sets(strategies.integers(0, 29)),
    down=strategies.sets(strategies.sampled_from(["features", "retrieval", "filter", "ranker"])),
    strange=strategies.booleans(),
    k=strategies.integers(1, 30),
)
async def test_asked_at_once_filter_and_ranker_give_the_same_list(make_recommender, stages, met, down, strange, k):
    stages.met = {f"item-{number:02}" for number in met}
    stages.failing = {stage: StageDown(stage, "x") for stage in down}
    stages.extra_candidates = ["not in the catalog"] if strange else []
    lists = []
    for overlap in (False, True):
        for asked in (stages.retrievals, stages.filters, stages.ranks, stages.impressions):
            asked.clear()
        answer = await make_recommender(overlap=overlap).recommend(ask(k=k), "r")
        lists.append((ids(answer), set(answer.degraded)))
    one_after_the_other, at_once = lists
    assert one_after_the_other[0] == at_once[0]
    # Where all was met, the ranker is asked at once and would not have been afterwards.
    assert one_after_the_other[1] <= at_once[1] <= one_after_the_other[1] | (down & {"ranker"})


async def test_asked_at_once_only_where_nothing_is_drawn(make_recommender, stages):
    await make_recommender(overlap=True).recommend(ask(k=5), "r")
    assert stages.ranks[-1].k == 20
    await make_recommender(overlap=True).recommend(ask(k=5, diversity=True, seed=1), "r")
    assert stages.ranks[-1].k == 5
    assert stages.ranks[-1].diversity is not None
