"""Users from the keys of Feast's online store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from cascade.online.errors import OnlineStoreDown
from cascade.online.feast_rows import row_key, user_of
from cascade.online.keys import recent
from cascade.online.known_users import KnownUsers


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def know(redis: Redis, *user_ids: str) -> KnownUsers:
    for user_id in user_ids:
        await redis.hset(row_key(user_id), "field", "value")  # type: ignore[misc]
    await redis.lpush(recent("somebody else"), "1|click|i1")  # type: ignore[misc]
    return KnownUsers(redis)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_key_tells_its_user(user_id: str) -> None:
    assert user_of(row_key(user_id)) == user_id


@pytest.mark.parametrize(
    "key", [b"", b"cascade:recent:u", row_key("u")[:-1], row_key("uv").replace(b"uv", b"u"), row_key("u")[:30]]
)
def test_other_keys_are_nobodys(key: bytes) -> None:
    assert user_of(key) is None


async def test_some_are_users_and_nothing_else(redis: Redis) -> None:
    users = await know(redis, *(f"u{number}" for number in range(20)))
    found = await users.some(5)
    assert len(found.user_ids) == 5
    assert set(found.user_ids) <= {f"u{number}" for number in range(20)}


async def test_where_nobody_is_known(redis: Redis) -> None:
    users = KnownUsers(redis)
    assert (await users.some(3)).user_ids == []
    assert (await users.search("u", 3)).user_ids == []


async def test_search_by_part_with_the_very_id_first(redis: Redis) -> None:
    users = await know(redis, "b1", "ab1", "b10", "c", "user", "[x]*")
    found = await users.search("b1", 10)
    assert (found.user_ids, found.complete) == (["b1", "ab1", "b10"], True)
    # Parts of the key around the id, and patterns, find nobody by themselves.
    assert (await users.search("*", 10)).user_ids == ["[x]*"]
    assert (await users.search("user_id", 10)).user_ids == []
    assert (await users.search("cascade", 10)).user_ids == []
    assert len((await users.search("b", 2)).user_ids) == 2


async def test_a_store_that_does_not_answer() -> None:
    async with Redis.from_url("redis://127.0.0.1:1/0") as client:
        with pytest.raises(OnlineStoreDown):
            await KnownUsers(client).some(1)
        with pytest.raises(OnlineStoreDown):
            await KnownUsers(client).search("u", 1)
