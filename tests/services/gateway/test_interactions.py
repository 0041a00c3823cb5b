"""Interactions of another time; forgetting a user online, against a real server: all of it by one step, or nothing."""

import pytest
import redis

from cascade.api.gateway import InteractionRequest
from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.feast_rows import row_key
from cascade.privacy.receipts import NoSuchReceipt
from cascade.privacy.suppression import digest_of
from services.gateway.interactions import FromTheFuture, FromThePast, Visitors


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


DAY_S = 86_400


@pytest.mark.parametrize(
    ("off_s", "refused"),
    [
        (0, None),
        (3600, None),
        (3601, FromTheFuture),
        (-7 * DAY_S, None),
        (-30 * DAY_S, None),
        (-30 * DAY_S - 1, FromThePast),
    ],
)
async def test_a_click_may_be_an_hour_ahead_and_thirty_days_late(stages, catalog, now, off_s, refused):
    visitors = Visitors(stages, stages, lambda: catalog, clock=lambda: now)
    request = InteractionRequest(user_id="u", item_id="item-04", timestamp=now + off_s)
    if refused is None:
        assert await visitors.record(request)
        assert stages.recorded[0].timestamp == now + off_s
    else:
        with pytest.raises(refused) as raised:
            await visitors.record(request)
        assert raised.value.field == "timestamp"
        assert not stages.recorded


@pytest.mark.parametrize("timestamp", [0, 4_102_444_800])
async def test_1970_and_2100_are_refused(client, timestamp):
    click = {"user_id": "u", "item_id": "item-04", "timestamp": timestamp}
    response = await client.post("/v1/interactions", json=click)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "timestamp"


async def test_clocks_that_are_an_hour_off_refuse_nobody_who_tells_the_time(stages, catalog, now):
    for skew_s in (-3600, 3600):
        visitors = Visitors(stages, stages, lambda: catalog, clock=lambda skew_s=skew_s: now + skew_s)
        assert await visitors.record(InteractionRequest(user_id="u", item_id="item-04", timestamp=now))
