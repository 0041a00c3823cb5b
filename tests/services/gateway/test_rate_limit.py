"""A key's rate over replicas, with a clock of the test's own."""

import asyncio

import pytest

from cascade.access.api_keys import Scope, make_key
from cascade.online.errors import OnlineStoreDown
from cascade.online.token_bucket import Grant
from cascade.serving.errors import RateLimited
from services.gateway.rate_limit import RateLimit


class Bucket:
    """What Redis does, over the same clock."""

    def __init__(self, clock):
        self.clock, self.held, self.down, self.asked = clock, {}, False, 0

    async def take(self, name, rate, burst, wanted):
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise OnlineStoreDown("down")
        tokens, at = self.held.get(name, (float(burst), self.clock()))
        tokens = min(burst, tokens + (self.clock() - at) * rate)
        granted = min(wanted, int(tokens))
        self.held[name] = tokens - granted, self.clock()
        return Grant(granted, 0.0 if granted else (1 - tokens) / rate)


class Notes:
    def __init__(self):
        self.limited, self.alone = 0, 0

    def rate_limited(self, key_id):
        self.limited += 1

    def counted_alone(self):
        self.alone += 1


@pytest.fixture
def world():
    now = [100.0]
    bucket, notes = Bucket(lambda: now[0]), Notes()
    replicas = [RateLimit(bucket.take, notes, 100.0, 200, lambda: now[0]) for _ in range(3)]
    return now, bucket, notes, replicas


async def admitted(limits, key, count):
    """How many of `count` requests, sent to the replicas in turn, were let through."""

    async def one(limit):
        try:
            await limit.admit(key)
        except RateLimited as error:
            return int(error.retry_after_s <= 0)
        return 1

    return sum(await asyncio.gather(*(one(limits[i % len(limits)]) for i in range(count))))


async def test_replicas_together_give_the_burst_and_then_the_rate(world):
    now, bucket, notes, replicas = world
    _, key = make_key("shop", [Scope.recommend])
    assert await admitted(replicas, key, 600) == 200
    assert notes.limited == 400
    assert bucket.asked < 60, "a lease is worth many requests"
    total = 0
    for _ in range(20):  # two seconds, far more asked than the rate gives
        now[0] += 0.1
        total += await admitted(replicas, key, 60)
    assert 190 <= total <= 200
    assert notes.alone == 0


async def test_a_key_has_its_own_numbers_and_others_are_untouched(world):
    _, _, _, replicas = world
    _, small = make_key("guest", [Scope.recommend], rate=1, burst=2)
    _, other = make_key("shop", [Scope.recommend])
    assert await admitted(replicas[:1], small, 10) == 2
    assert await admitted(replicas[:1], other, 10) == 10


async def test_what_is_refused_does_not_ask_redis_again_and_again(world):
    _, bucket, _, replicas = world
    _, key = make_key("guest", [Scope.recommend], rate=1, burst=1)
    await admitted(replicas[:1], key, 1)
    before = bucket.asked
    assert await admitted(replicas[:1], key, 50) == 0
    assert bucket.asked - before <= 1


async def test_without_redis_each_counts_for_itself_and_tells(world):
    now, bucket, notes, replicas = world
    bucket.down = True
    _, key = make_key("shop", [Scope.recommend], rate=10, burst=5)
    assert await admitted(replicas[:1], key, 20) == 5
    assert notes.alone == 5
    assert bucket.asked == 1, "a store that gave no answer is left alone for a second"
    now[0] += 0.5
    assert await admitted(replicas[:1], key, 20) == 5
    bucket.down = False
    now[0] += 2.0
    assert await admitted(replicas[:1], key, 20) == 5
    assert bucket.held, "it counts in Redis again"
