from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from cascade.online import keys
from cascade.online.connection import answers, connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.generations import SeenShape
from cascade.online.interactions import Event, Interactions, RecentItem
from cascade.online.pipelined import PipelinedRedis
from cascade.online.server import RedisServer, free_port


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture(params=["a pool", "a connection for all"])
async def interactions(request: pytest.FixtureRequest, client: Redis, redis_url: str) -> AsyncIterator[Interactions]:
    if request.param == "a pool":
        yield Interactions(client)
        return
    writer = PipelinedRedis(redis_url, 5)
    yield Interactions(client, writer=writer)
    await writer.aclose()


def event(item_id: str = "i1", user_id: str = "u1", at: int = 1_767_600_000) -> Event:
    return Event(user_id, item_id, at, "click", "mobile", "r-1")


async def test_one_step_writes_filter_recent_items_and_event(interactions: Interactions, client: Redis) -> None:
    event_id = await interactions.record(event())
    assert await interactions.unseen("u1", ["i0", "i1", "i2"]) == ["i0", "i2"]
    assert await interactions.unseen("u2", ["i0", "i1"]) == ["i0", "i1"]
    assert await interactions.recent("u1") == [RecentItem(1_767_600_000, "click", "i1")]
    [(stream_id, fields)] = await client.xrange(keys.EVENTS)
    assert stream_id.decode() == event_id
    assert Event.from_fields({name.decode(): value.decode() for name, value in fields.items()}) == event()


async def test_clicks_on_a_list_are_noted_for_it(interactions: Interactions, client: Redis) -> None:
    await interactions.record(event("i1"))
    await interactions.record(event("i2", "u2"))
    await interactions.record(Event("u1", "i3", 1, "not_interested", None, "r-1"))
    await interactions.record(Event("u1", "i4", 1, "click"))
    assert await client.smembers(keys.clicked("r-1")) == {b"i1", b"i2"}
    assert 0 < await client.ttl(keys.clicked("r-1")) <= keys.CLICKED_TTL_S
    assert len(await client.keys("cascade:clicked:*")) == 1
    assert await client.xlen(keys.EVENTS) == 4


async def test_a_write_sent_again_happens_once(interactions: Interactions, client: Redis) -> None:
    first = await interactions.record(event("i1"), "w1")
    assert await Interactions(client).record(event("i1"), "w1") == first
    assert await client.xlen(keys.EVENTS) == 1
    assert len(await interactions.recent("u1")) == 1
    assert 0 < await client.ttl(keys.written("w1")) <= keys.WRITTEN_TTL_S

    others = {await interactions.record(event("i1"), "w2"), await interactions.record(event("i1"))}
    assert len(others | {first}) == 3  # another write of the same, and one without a name
    assert await client.xlen(keys.EVENTS) == 3


async def test_a_named_write_without_a_list(interactions: Interactions, client: Redis) -> None:
    seen = Event("u1", "i1", 1, "not_interested", None, "r-1")
    assert await interactions.record(seen, "w1") == await interactions.record(seen, "w1")
    assert await client.xlen(keys.EVENTS) == 1
    assert not await client.keys("cascade:clicked:*")


async def test_both_keys_expire_and_the_clock_starts_anew(client: Redis) -> None:
    interactions = Interactions(client, seen_ttl_s=100)
    await interactions.record(event("i1"))
    for key in (keys.seen("u1"), keys.recent("u1")):
        assert await client.ttl(key) == 100
        await client.expire(key, 5)
    await interactions.record(event("i2"))
    assert [await client.ttl(key) for key in (keys.seen("u1"), keys.recent("u1"))] == [100, 100]


async def test_recent_items_are_bounded_and_newest_first(interactions: Interactions) -> None:
    for number in range(keys.RECENT_MAX + 5):
        await interactions.record(event(f"i{number}", at=number))
    recent = await interactions.recent("u1")
    assert len(recent) == keys.RECENT_MAX
    assert [item.item_id for item in recent[:2]] == [f"i{keys.RECENT_MAX + 4}", f"i{keys.RECENT_MAX + 3}"]
    assert [item.item_id for item in await interactions.recent("u1", 1)] == [f"i{keys.RECENT_MAX + 4}"]


async def test_seen_items_stay_hidden_however_many(interactions: Interactions) -> None:
    ids = [f"item {number}" for number in range(300)]
    for item_id in ids[::2]:
        await interactions.record(event(item_id))
    left = await interactions.unseen("u1", ids)
    assert not set(left) & set(ids[::2])
    assert len(left) >= 145  # 150 less false positives, of which a filter this empty has hardly any


async def test_forgetting_removes_the_users_keys_alone(interactions: Interactions) -> None:
    await interactions.record(event())
    await interactions.record(event(user_id="u2"))
    assert await interactions.forget("u1") == 2
    assert await interactions.forget("u1") == 0
    assert await interactions.unseen("u1", ["i1"]) == ["i1"]
    assert await interactions.unseen("u2", ["i1"]) == []


async def test_a_server_that_forgot_the_script_gets_it_again(interactions: Interactions, client: Redis) -> None:
    await interactions.record(event())
    await client.script_flush()
    await interactions.record(event("i2"))
    assert await client.xlen(keys.EVENTS) == 2


@pytest.mark.parametrize("pipelined", [False, True])
async def test_an_error_is_that_requests_alone(tmp_path: Path, pipelined: bool) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    client, writer = connect(server.url, timeout_s=0.5), PipelinedRedis(server.url, 0.5)
    try:
        interactions = Interactions(client, writer=writer if pipelined else None)
        await interactions.record(event())
        server.stop()
        with pytest.raises(OnlineStoreDown, match="reading seen items"):
            await interactions.unseen("u1", ["i1"])
        with pytest.raises(OnlineStoreDown, match="recording"):
            await interactions.record(event("i2"))
        assert await answers(client) is not None
        server.start()
        assert await answers(client) is None
        assert await interactions.unseen("u1", ["i1", "i2"]) == ["i2"]  # i1 came back from the append-only file
        await interactions.record(event("i2"))
    finally:
        await writer.aclose()
        await client.aclose()
        server.stop()


async def test_connections_that_a_restart_cut_fail_no_request(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    client, writer = connect(server.url, timeout_s=2.0), PipelinedRedis(server.url, 2.0)
    interactions = Interactions(client, writer=writer)

    async def many() -> None:
        await asyncio.gather(
            *(interactions.unseen("u1", ["i1"]) for _ in range(16)),
            *(interactions.record(event("i2")) for _ in range(16)),
        )

    try:
        await many()  # the pool now holds several connections
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await many()
    finally:
        await writer.aclose()
        await client.aclose()
        server.stop()


async def test_a_full_server_refuses_the_whole_step(tmp_path: Path) -> None:
    with RedisServer(tmp_path, free_port()) as server, redis.Redis.from_url(server.url) as admin:
        client, writer = connect(server.url), PipelinedRedis(server.url, 5)
        try:
            for interactions in (Interactions(client), Interactions(client, writer=writer)):
                admin.config_set("maxmemory", 1)
                with pytest.raises(OnlineStoreDown, match="maxmemory"):
                    await interactions.record(event())
                assert admin.dbsize() == 0
                admin.config_set("maxmemory", 0)
                await interactions.record(event())
                admin.flushdb()
        finally:
            await writer.aclose()
            await client.aclose()


async def test_a_small_coarse_filter_still_answers(client: Redis) -> None:
    interactions = Interactions(client, SeenShape(10, 0.1))
    await interactions.record(event())
    assert await interactions.unseen("u1", ["i1", "i2"]) == ["i2"]


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@given(text, text, st.integers(0, 2**32), text, st.none() | text, st.none() | text)
def test_events_and_recent_items_survive_the_round_trip(
    user: str, item: str, at: int, kind: str, device: str | None, request: str | None
) -> None:
    event = Event(user, item, at, kind, device, request)
    assert Event.from_fields(event.fields()) == event
    recent = RecentItem(at, "click", item)
    assert RecentItem.decode(recent.encode()) == recent
