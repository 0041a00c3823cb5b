"""Forgetting a user online, against a real server: all of it by one step, or nothing."""

import pytest
import redis

from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.feast_rows import row_key
from cascade.privacy.receipts import NoSuchReceipt
from cascade.privacy.suppression import digest_of
from services.gateway.interactions import Visitors


@pytest.fixture
def store(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def visitors(stages, catalog, redis_url):
    client = connect(redis_url)
    yield Visitors(stages, client, lambda: catalog)
    await client.aclose()


async def test_what_is_online_goes_at_once_and_the_rest_is_queued(visitors, store):
    store.set(keys.seen("u"), "x")
    store.rpush(keys.recent("u"), "1|click|i")
    store.hset(row_key("u"), "a", "b")
    told = await visitors.forget("u")
    assert (told.status, told.removed) == ("pending", {"history": 2, "features": 1})
    assert told.user == digest_of("u")
    assert not store.exists(keys.seen("u"), keys.recent("u"), row_key("u"))
    assert store.sismember(keys.SUPPRESSED, digest_of("u"))
    assert store.hgetall(keys.FORGETTINGS) == {told.receipt.encode(): b"u"}
    assert await visitors.receipt(told.receipt) == told
    assert 0 < store.ttl(keys.receipt(told.receipt)) <= keys.RECEIPT_TTL_S
    again = await visitors.forget("u")
    assert again.removed == {"history": 0, "features": 0}
    assert again.receipt != told.receipt


async def test_a_receipt_that_nobody_has(visitors):
    with pytest.raises(NoSuchReceipt):
        await visitors.receipt("0123456789abcdef")


async def test_nothing_is_called_forgotten_that_is_not(stages, catalog):
    client = connect("redis://127.0.0.1:1/0", timeout_s=0.1)
    with pytest.raises(OnlineStoreDown):
        await Visitors(stages, client, lambda: catalog).forget("u")
    await client.aclose()
