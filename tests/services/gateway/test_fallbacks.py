"""Popular items, from wherever they can be had."""

import asyncio

import pytest

from cascade.api.common import UserFeatures
from cascade.online.errors import OnlineStoreDown
from services.gateway.fallbacks import (
    BundledPopularity,
    FirstThatAnswers,
    RedisPopularity,
    popular_candidates,
)

BUNDLED = BundledPopularity([("a", 3.0), ("b", 2.0), ("c", 1.0)], {"hats": [("b", 2.0)]}, {"style": [("c", 1.0)]})


class Lists:
    """Redis lists; `fails` says how."""

    def __init__(self, fails=None):
        self.fails = fails

    async def _answer(self, found):
        if self.fails == "hang":
            await asyncio.sleep(3600)
        if self.fails:
            raise OnlineStoreDown(self.fails)
        return found

    async def everywhere(self):
        return await self._answer([("x", 9.0), ("y", 8.0)])

    async def of_l1(self, category):
        return await self._answer([("y", 8.0)] if category == "hats" else [])

    async def of_l2(self, category):
        return await self._answer([("z", 7.0)] if category == "style" else [])


@pytest.mark.parametrize(
    ("category", "k", "found"),
    [(None, 2, ["a", "b"]), ("hats", 9, ["b"]), ("style", 9, ["c"]), ("nothing", 9, [])],
)
async def test_bundled(category, k, found):
    assert [one for one, _ in await BUNDLED.top(category, k)] == found


@pytest.mark.parametrize(
    ("category", "k", "found"),
    [(None, 1, ["x"]), ("hats", 9, ["y"]), ("style", 9, ["z"]), ("nothing", 9, [])],
)
async def test_redis(category, k, found):
    assert [one for one, _ in await RedisPopularity(Lists()).top(category, k)] == found


async def test_the_fresher_list_comes_first():
    failures = []
    both = FirstThatAnswers(RedisPopularity(Lists()), BUNDLED, 1.0, failures.append)
    assert (await both.top(None, 1))[0][0] == "x"
    assert failures == []


@pytest.mark.parametrize("fails", ["gone", "hang"])
async def test_the_bundle_stands_in_and_the_failure_is_told(fails):
    failures = []
    both = FirstThatAnswers(RedisPopularity(Lists(fails)), BUNDLED, 0.01, failures.append)
    assert (await both.top(None, 1))[0][0] == "a"
    assert len(failures) == 1


async def test_candidates_hold_each_item_once_own_category_first():
    user = UserFeatures(user_id="u", top_category="hats")
    assert await popular_candidates(BUNDLED, user, 10) == ["b", "a", "c"]
    assert await popular_candidates(BUNDLED, user, 1) == ["b"]
    assert await popular_candidates(BUNDLED, UserFeatures(user_id="u"), 10) == ["a", "b", "c"]
