from __future__ import annotations

import pyarrow as pa
import pytest
import redis

from cascade.features.recent import SCHEMA
from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.interactions import Event, Interactions, RecentItem
from cascade.online.recent import fill_recent
from cascade.online.server import free_port

USERS = pa.table(
    {"user_id": ["early", "live"], "entries": [["20|view|b|c", "10|purchase|a"], ["5|view|old"]]}, schema=SCHEMA
)


async def test_users_start_from_the_log_and_their_own_traffic_stays(redis_url: str) -> None:
    client = connect(redis_url)
    try:
        interactions = Interactions(client)
        await interactions.record(Event("live", "new", 30, "click"))
        with redis.Redis.from_url(redis_url) as writer:
            assert fill_recent(writer, USERS, ttl_s=100) == 1
            assert 0 < writer.ttl(keys.recent("early")) <= 100
            assert fill_recent(writer, USERS) == 0
        assert await interactions.recent("early") == [RecentItem(20, "view", "b|c"), RecentItem(10, "purchase", "a")]
        assert await interactions.recent("live") == [RecentItem(30, "click", "new")]
        await interactions.record(Event("early", "d", 40, "click"))
        assert [entry.item_id for entry in await interactions.recent("early")] == ["d", "b|c", "a"]
    finally:
        await client.aclose()


def test_no_server_is_told() -> None:
    with (
        redis.Redis.from_url(f"redis://127.0.0.1:{free_port()}/0") as writer,
        pytest.raises(OnlineStoreDown, match="writing recent items"),
    ):
        fill_recent(writer, USERS)
