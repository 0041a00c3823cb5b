"""What the live page reads from the streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
from redis.asyncio import Redis

from cascade.online import keys
from cascade.online.click_through import Clicked, click_through
from cascade.online.stream_lag import Lag, event_lag


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_lag_counts_what_is_not_handled(redis: Redis) -> None:
    async def lag() -> Lag:
        return await event_lag(redis, lambda: 100.0)

    assert await lag() == Lag(0.0, 0, 0)
    for at in (90, 95, 97):
        await redis.xadd(keys.EVENTS, {"a": "b"}, id=f"{at * 1000}-0")
    assert await lag() == Lag(10.0, 3, 3)  # no worker yet
    await redis.xgroup_create(keys.EVENTS, keys.FEATURES_GROUP, id="0")
    assert await lag() == Lag(10.0, 3, 3)  # none delivered
    await redis.xreadgroup(keys.FEATURES_GROUP, "worker", {keys.EVENTS: ">"}, count=2)
    assert await lag() == Lag(10.0, 3, 3)  # two pending
    await redis.xack(keys.EVENTS, keys.FEATURES_GROUP, "90000-0", "95000-0")
    assert await lag() == Lag(3.0, 1, 3)
    await redis.xreadgroup(keys.FEATURES_GROUP, "worker", {keys.EVENTS: ">"})
    await redis.xack(keys.EVENTS, keys.FEATURES_GROUP, "97000-0")
    assert await lag() == Lag(0.0, 0, 3)


async def test_click_through_by_track(redis: Redis) -> None:
    assert await click_through(redis) == {}
    for number in range(6):
        tracks = {"retrieval": "stable", "ranker": "canary" if number % 3 == 0 else "stable"}
        payload = orjson.dumps({"request_id": f"r{number}", "tracks": tracks})
        await redis.xadd(keys.IMPRESSIONS, {"payload": payload})
    for request in ("r0", "r1", "r2"):
        await redis.sadd(keys.clicked(request), "i1", "i2")  # type: ignore[misc]

    assert await click_through(redis) == {"canary": Clicked(2, 1), "stable": Clicked(4, 2)}
    assert await click_through(redis, most=1) == {"stable": Clicked(1, 0)}
