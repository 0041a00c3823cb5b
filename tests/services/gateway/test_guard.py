"""Asking a stage: its time, the request's, and the breaker's memory over many requests."""

from __future__ import annotations

import asyncio
import time

import pytest

from cascade import deadline
from cascade.api.gateway import RecommendationRequest
from cascade.online.errors import FeatureStoreNotReady, OnlineStoreDown
from cascade.serving.breaker import Breaking
from services.gateway.guard import Guard
from services.gateway.ports import StageBusy, StageDown, StageLate, StageOpen

pytestmark = pytest.mark.asyncio


def failing(error):
    async def call():
        raise error

    return call


async def never():
    await asyncio.sleep(3600)


async def answered():
    return "answer"


async def ask(guard, call, seconds=5.0, stage="ranker"):
    try:
        return await guard.ask(stage, seconds, call)
    except Exception as error:
        return error


@pytest.mark.parametrize("error", [StageDown("ranker", "x"), StageLate("ranker", "x"), OnlineStoreDown("x")])
async def test_what_fails_again_and_again_is_not_asked_and_one_probe_brings_it_back(notes, error):
    guard = Guard(notes, Breaking(after=3, seconds=0.05))
    assert [await ask(guard, failing(error)) for _ in range(3)] == [error] * 3
    assert isinstance(await ask(guard, answered), StageOpen)
    assert await ask(guard, answered, stage="filter") == "answer", "each stage has its own"
    await asyncio.sleep(0.06)
    assert await ask(guard, answered) == "answer"
    assert await ask(guard, answered) == "answer"
    assert notes.breakers == [("ranker", True), ("ranker", False)]


@pytest.mark.parametrize("error", [StageBusy("ranker", "x"), FeatureStoreNotReady("x"), KeyError("a defect")])
async def test_what_answers_in_some_way_is_asked_again(notes, error):
    guard = Guard(notes, Breaking(after=2))
    assert [await ask(guard, failing(error)) for _ in range(5)] == [error] * 5
    assert notes.breakers == []


async def test_one_that_keeps_no_time_is_given_up(notes):
    guard = Guard(notes, Breaking(after=2, seconds=60))
    began = time.monotonic()
    assert [type(await ask(guard, never, 0.01)) for _ in range(2)] == [StageLate] * 2
    assert time.monotonic() - began < 5
    assert notes.breakers == [("ranker", True)]


async def test_a_stage_is_not_to_blame_for_time_that_others_spent(notes):
    guard = Guard(notes, Breaking(after=2))
    for _ in range(5):
        with deadline.within(0.01):
            assert isinstance(await ask(guard, never, 1.0), StageLate)
    assert notes.breakers == []


async def test_given_up_by_the_caller_it_tells_nothing(notes):
    guard = Guard(notes, Breaking(after=1, seconds=0.01))
    task = asyncio.create_task(guard.ask("ranker", 60, never))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes.breakers == []


async def test_all_stages_together_keep_the_time_of_the_request(make_recommender, stages):
    stages.slow = {"features", "retrieval", "filter", "ranker"}
    recommender = make_recommender(total_s=0.1, features_s=0.04, retrieval_s=60, filter_s=60, ranker_s=60)
    began = time.monotonic()
    answer = await recommender.recommend(RecommendationRequest(user_id="u", k=5), "r")
    assert time.monotonic() - began < 5
    assert answer.degraded == ["features", "retrieval", "filter", "ranker"]
    assert len(answer.items) == 5


async def test_one_stage_leaves_time_for_those_after_it(make_recommender, stages):
    stages.slow = {"retrieval"}
    recommender = make_recommender(total_s=1.0, retrieval_s=60, share=0.05)
    answer = await recommender.recommend(RecommendationRequest(user_id="u", k=5), "r")
    assert answer.degraded == ["retrieval"]
    assert all(item.score is not None for item in answer.items)


async def test_a_hung_stage_costs_its_time_a_few_times_and_then_nothing(make_recommender, stages, notes):
    recommender = make_recommender(ranker_s=0.02)
    stages.slow = {"ranker"}
    for _ in range(12):
        answer = await recommender.recommend(RecommendationRequest(user_id="u", k=5), "r")
        assert answer.degraded == ["ranker"]
    assert len(stages.ranks) == 5
    assert [type(error) for _, error in notes.failures] == [StageLate] * 5 + [StageOpen] * 7
