from __future__ import annotations

import pytest
import redis

from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.popular import PopularItems, write_popular
from cascade.online.server import free_port


async def test_lists_are_read_as_they_were_written(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        assert write_popular(writer, [("a", 3), ("b", 1.5)], {"Schuhe|Mode": [("a", 3)]}, {"stiefel": []}) == 3
    client = connect(redis_url)
    popular = PopularItems(client)
    assert await popular.everywhere() == [("a", 3.0), ("b", 1.5)]
    assert await popular.of_l1("Schuhe|Mode") == [("a", 3.0)]
    assert await popular.of_l2("stiefel") == []
    assert await popular.of_l1("none") == []
    await client.aclose()


async def test_a_build_replaces_all_lists(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        writer.set(keys.seen("u"), b"1")
        write_popular(writer, [("a", 1)], {"old": [("a", 1)]}, {"old": [("a", 1)]})
        write_popular(writer, [("b", 1)], {"new": [("b", 1)]}, {})
        assert sorted(key.decode() for key in writer.scan_iter()) == sorted(
            [keys.seen("u"), keys.POPULAR_GLOBAL, keys.popular_l1("new")]
        )


async def test_no_server_is_told() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with redis.Redis.from_url(url) as writer, pytest.raises(OnlineStoreDown, match="writing popular items"):
        write_popular(writer, [], {}, {})
    client = connect(url)
    with pytest.raises(OnlineStoreDown, match="reading popular items"):
        await PopularItems(client).everywhere()
    await client.aclose()
