"""A bucket gives what it gained and no more, however many take from it. Against a real server."""

import asyncio
import time

import pytest
import redis

from cascade.online import keys
from cascade.online.errors import OnlineStoreDown
from cascade.online.pipelined import PipelinedRedis
from cascade.online.token_bucket import TokenBuckets


@pytest.fixture
async def bucket_of(redis_url):
    clients = [PipelinedRedis(redis_url, 2.0) for _ in range(3)]
    yield [TokenBuckets(client) for client in clients]
    for client in clients:
        await client.aclose()


async def test_replicas_share_one_bucket(bucket_of):
    started = time.monotonic()
    grants = await asyncio.gather(*(bucket.take("k", 10.0, 50, 4) for bucket in bucket_of * 10))
    gained = 10.0 * (time.monotonic() - started)
    assert 50 <= sum(grant.tokens for grant in grants) <= 50 + gained + 1
    assert all(0 < grant.wait_s <= 0.1 for grant in grants if not grant.tokens)


async def test_it_gains_with_time_and_is_not_kept_for_ever(bucket_of, redis_url):
    first = await bucket_of[0].take("k", 20.0, 5, 100)
    assert first.tokens == 5
    nothing = await bucket_of[1].take("k", 20.0, 5, 1)
    assert nothing.tokens == 0
    await asyncio.sleep(nothing.wait_s + 0.01)
    assert (await bucket_of[1].take("k", 20.0, 5, 100)).tokens >= 1
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.pttl(keys.rate("k")) <= 1250


async def test_buckets_are_apart(bucket_of):
    assert (await bucket_of[0].take("a", 1.0, 3, 3)).tokens == 3
    assert (await bucket_of[0].take("b", 1.0, 3, 3)).tokens == 3


async def test_without_redis_it_says_so():
    client = PipelinedRedis("redis://127.0.0.1:1/0", 0.1)
    with pytest.raises(OnlineStoreDown):
        await TokenBuckets(client).take("k", 1.0, 1, 1)
    await client.aclose()
