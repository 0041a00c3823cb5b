"""Click-through by the assigned track, from a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson
import pytest
from redis import Redis

from cascade.canary.clicks import Clicked, StreamClicks
from cascade.canary.evalues import Counts
from cascade.online import keys
from cascade.online.connection import connect_blocking
from cascade.online.errors import OnlineStoreDown
from cascade.online.impressions import PAYLOAD


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect_blocking(redis_url, timeout_s=10.0) as client:
        yield client


def show(redis: Redis, request: str, user: str, track: str | None, *, clicked: bool = False, **more: object) -> None:
    impression = {
        "request_id": request,
        "user_id": user,
        "timestamp": 0,
        "device_type": None,
        "items": [],
        "versions": {},
        "tracks": {"ranker": "stable"},
        "assigned": {} if track is None else {"ranker": track},
        **more,
    }
    redis.xadd(keys.IMPRESSIONS, {PAYLOAD: orjson.dumps(impression)})
    if clicked:
        redis.sadd(keys.clicked(request), "i1")


def test_lists_count_by_the_track_assigned_with_their_clicks(redis: Redis) -> None:
    source = StreamClicks(redis, "ranker", 0.0)
    show(redis, "before", "early", "canary")
    begin = source.since(None, "v", 0)
    assert begin.counts == Counts()
    redis.xadd(keys.IMPRESSIONS, {"no": "impression"}, id=f"{int(begin.cursor) + 1}-0")
    show(redis, "r1", "u1", "canary", clicked=True)
    show(redis, "r2", "u2", "canary")
    show(redis, "r3", "u3", "stable")
    show(redis, "r4", "u4", None)  # before the canary began
    show(redis, "r5", "u5", "canary", forced=["ranker"])  # asked for it itself
    assert ripe(source, begin).counts == Counts(1, 1, 2, 1)


def test_a_user_counts_once_a_step(redis: Redis) -> None:
    source = StreamClicks(redis, "ranker", 0.0)
    cursor = Clicked("0")
    show(redis, "r1", "u1", "canary")
    show(redis, "r2", "u1", "canary", clicked=True)
    first = ripe(source, cursor)
    assert first.counts == Counts(0, 0, 1, 1)
    show(redis, "r3", "u1", "canary", clicked=True)
    second = ripe(source, first)
    assert second.counts == Counts()
    show(redis, "r4", "u1", "canary", clicked=True)
    assert ripe(source, second, step=1).counts == Counts(0, 0, 1, 0)
    assert 0 < redis.ttl(keys.canary_users("ranker", "v", 0)) <= keys.CANARY_USERS_TTL_S


def test_a_list_waits_for_its_click(redis: Redis) -> None:
    source = StreamClicks(redis, "ranker", 3600.0)
    show(redis, "r1", "u1", "canary")
    assert source.since("0", "v", 0).counts == Counts()


def test_many_lists_are_read_page_by_page(redis: Redis) -> None:
    for number in range(1500):
        show(redis, f"r{number}", f"u{number}", "stable")
    assert ripe(StreamClicks(redis, "ranker", 0.0), Clicked("0")).counts == Counts(1500, 1500)


def test_a_redis_that_is_down_is_said_to_be() -> None:
    with connect_blocking("redis://127.0.0.1:1/0", timeout_s=1.0) as client, pytest.raises(OnlineStoreDown):
        StreamClicks(client, "ranker", 0.0).since(None, "v", 0)


def ripe(source: StreamClicks, cursor: Clicked, step: int = 0) -> Clicked:
    """Once the milliseconds of all entries are over, of those that were written ahead too."""
    time.sleep(0.003)
    return source.since(cursor.cursor, "v", step)
