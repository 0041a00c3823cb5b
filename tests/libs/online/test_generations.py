"""Seen items over real Redis and a clock of the test: what stays hidden, for how long, and how often it is wrong."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from cascade.online import keys
from cascade.online.bloom import PositionTable
from cascade.online.connection import connect
from cascade.online.generations import AGE_STEPS, COUNT_STEPS, GENERATIONS, HEADER_BYTES, SeenShape
from cascade.online.interactions import Event, Interactions
from cascade.online.server import RedisServer

START = 1_767_600_000.0
TTL = 100
users = (f"user-{number}" for number in itertools.count())


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


Scenario = Callable[[Redis], Coroutine[Any, Any, None]]


def play(server: RedisServer, scenario: Scenario) -> None:
    """Run it with a client of its own; for tests of many examples, each with a user of its own."""

    async def run() -> None:
        client = connect(server.url, timeout_s=10)
        try:
            await scenario(client)
        finally:
            await client.aclose()

    asyncio.run(run())


def event(user_id: str, item_id: str) -> Event:
    return Event(user_id, item_id, int(START), "click")


class Model:
    """The rules, plainly: generations of exact sets."""

    def __init__(self, capacity: int, ttl: float) -> None:
        self.most, self.ttl = math.ceil(capacity / COUNT_STEPS), ttl
        self.generations: list[tuple[set[str], float, float]] = []  # items, begun, newest item

    def record(self, item_id: str, now: float) -> None:
        stamp = math.ceil(now)
        items, begun, _ = self.generations[-1] if self.generations else (set[str](), 0.0, 0.0)
        if not self.generations or len(items) >= self.most or now - begun >= self.ttl / AGE_STEPS:
            alive = [one for one in self.generations if one[2] + self.ttl > now]
            self.generations = [*alive[-(GENERATIONS - 1) :], (set(), stamp, stamp)]
        items, begun, _ = self.generations[-1]
        self.generations[-1] = ({*items, item_id}, begun, stamp)

    def hidden(self, now: float) -> set[str]:
        return set().union(*(items for items, _, newest in self.generations if newest + self.ttl > now))


# seconds that pass, then the item that is met
steps = st.lists(st.tuples(st.floats(0, 60), st.integers(0, 30)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(1, 20))
def test_the_newest_stay_hidden_and_old_ones_return(
    redis_server: RedisServer, steps: list[tuple[float, int]], capacity: int
) -> None:
    async def scenario(client: Redis) -> None:
        clock, user, model = Clock(), next(users), Model(capacity, TTL)
        shape = SeenShape(capacity, 1e-6)  # so that what is hidden by chance does not blur what is promised
        interactions = Interactions(client, shape, seen_ttl_s=TTL, clock=clock)
        ids = [f"i{number}" for number in range(31)]
        met: list[tuple[float, str]] = []
        for wait, number in steps:
            clock.now += wait
            await interactions.record(event(user, ids[number]))
            model.record(ids[number], clock.now)
            met.append((clock.now, ids[number]))
            hidden = set(ids) - set(await interactions.unseen(user, ids))
            assert {item for at, item in met[-capacity:] if clock.now - at < TTL} <= hidden
            latest = {item: at for at, item in met}
            late = TTL * (1 + 1 / AGE_STEPS) + 2
            assert not {item for item, at in latest.items() if clock.now - at > late} & hidden
            assert hidden == model.hidden(clock.now)
        stored = await client.get(keys.seen(user)) or b""
        assert len(stored) <= shape.most_bytes
        clock.now += TTL + 1
        assert await interactions.unseen(user, ids) == ids

    play(redis_server, scenario)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_fast_test_answers_what_bit_by_bit_reading_would(redis_server: RedisServer, data: st.DataObject) -> None:
    """The layout as its module describes it, read without NumPy."""
    capacity = data.draw(st.integers(1, 60))
    rate = data.draw(st.sampled_from([0.5, 0.1, 0.01]))  # coarse ones too, so that filters are wrong now and then
    waits = data.draw(st.lists(st.floats(0, 40), max_size=80))
    since = START + data.draw(st.floats(-10, 2000))

    async def scenario(client: Redis) -> None:
        clock, user, shape = Clock(), next(users), SeenShape(capacity, rate)
        interactions = Interactions(client, shape, seen_ttl_s=TTL, clock=clock)
        for number, wait in enumerate(waits):
            clock.now += wait
            await interactions.record(event(user, f"i{number}"))
        stored = await client.get(keys.seen(user))
        probes = [f"i{number}" for number in range(0, 200, 3)]
        bits = PositionTable(shape.filter).lookup(probes)
        assert shape.held(stored, bits, since).tolist() == [plainly(shape, stored, one, since) for one in probes]

    play(redis_server, scenario)


def plainly(shape: SeenShape, stored: bytes | None, item_id: str, since: float) -> bool:
    if stored is None:
        return False
    number = lambda at: int.from_bytes(stored[at : at + 4], "little")  # noqa: E731
    size = shape.filter.bits // 8
    for place in range((len(stored) - HEADER_BYTES) // size):
        row = HEADER_BYTES - 16 * (GENERATIONS - place)
        if number(row + 4) == 0 or number(row + 12) <= since:
            continue
        one = stored[HEADER_BYTES + place * size : HEADER_BYTES + (place + 1) * size]
        if all(one[bit // 8] >> (7 - bit % 8) & 1 for bit in shape.filter.positions(item_id)):
            return True
    return False


def test_an_overfull_user_still_sees_the_shop(redis_server: RedisServer) -> None:
    """The measured rate against the exact set, from ten items to five times the capacity."""
    shape = SeenShape()
    others = [f"other-{number}" for number in range(20_000)]

    async def scenario(client: Redis) -> None:
        interactions = Interactions(client, shape)
        rates: dict[int, list[float]] = {10: [], 100: [], 1000: [], 5000: []}
        for user in (next(users), next(users)):
            done = 0
            for load, measured in rates.items():
                ids = [f"{user}-{number}" for number in range(load)]
                await in_turns(8, [interactions.record(event(user, one)) for one in ids[done:]])
                left = await interactions.unseen(user, others)
                measured.append(1 - len(left) / len(others))
                assert not set(await interactions.unseen(user, ids)) & set(ids[-shape.capacity :])
                assert await client.strlen(keys.seen(user)) <= shape.most_bytes
                done = load
        # twice 20,000 probes: a rate of 1 % has a standard error near 0.05 %
        for load, measured in rates.items():
            assert np.mean(measured) <= shape.error_rate * 1.15, load
        assert np.mean(rates[10]) <= shape.error_rate / 10

    play(redis_server, scenario)


async def in_turns(count: int, work: list[Awaitable[Any]]) -> None:
    """Await them in their order, at most so many at once."""
    for start in range(0, len(work), count):
        await asyncio.gather(*work[start : start + count])


def test_writers_and_readers_at_once_through_rotations(redis_server: RedisServer) -> None:
    """Every read sees all that was acknowledged before it began, as far as it is among the newest of the capacity."""
    shape, count, writers = SeenShape(80, 0.001), 600, 4

    async def scenario(client: Redis) -> None:
        user, acknowledged = next(users), list[str]()
        numbers = iter(range(count))

        async def write() -> None:
            one = connect(redis_server.url, timeout_s=10)
            interactions = Interactions(one, shape)
            for number in numbers:
                await interactions.record(event(user, f"i{number}"))
                acknowledged.append(f"i{number}")
            await one.aclose()

        async def read() -> None:
            interactions = Interactions(client, shape)
            while len(acknowledged) < count:
                # what the others have written and not acknowledged yet may be newer
                newest = acknowledged[-(shape.capacity - 2 * writers) :]
                assert await interactions.unseen(user, newest) == []

        await asyncio.gather(*(write() for _ in range(writers)), read(), read())
        stored = await client.get(keys.seen(user))
        assert stored is not None
        assert len(stored) == shape.most_bytes, "all generations were needed"
        held = shape.held(stored, PositionTable(shape.filter).lookup([f"i{n}" for n in range(count)]), 0.0)
        kept = (GENERATIONS - 1) * shape.filter.capacity
        assert kept <= held.sum() <= kept + shape.filter.capacity + 0.05 * count

    play(redis_server, scenario)


def test_an_active_users_oldest_items_return_though_they_never_stop(redis_server: RedisServer) -> None:
    day = 24 * 3600

    async def scenario(client: Redis) -> None:
        clock, user = Clock(), next(users)
        interactions = Interactions(client, clock=clock)
        for number in range(40):
            await interactions.record(event(user, f"i{number}"))
            clock.now += day
        left = await interactions.unseen(user, [f"i{number}" for number in range(40)])
        hidden = 40 - len(left)
        assert left == [f"i{number}" for number in range(40 - hidden)], "the newest are hidden"
        assert keys.SEEN_TTL_S // day - 1 <= hidden <= keys.SEEN_TTL_S // day * 1.25
        # few items a week need few generations, and no more memory than for those
        assert await client.strlen(keys.seen(user)) <= HEADER_BYTES + (AGE_STEPS + 1) * SeenShape().filter_bytes

    play(redis_server, scenario)


def test_an_item_met_again_is_hidden_anew_and_counted_once(redis_server: RedisServer) -> None:
    async def scenario(client: Redis) -> None:
        clock, user, shape = Clock(), next(users), SeenShape(8, 1e-6)
        interactions = Interactions(client, shape, seen_ttl_s=TTL, clock=clock)
        await interactions.record(event(user, "first"))
        for _ in range(50):
            await interactions.record(event(user, "again"))
        assert await interactions.unseen(user, ["first", "again"]) == [], "repetitions push nothing out"
        clock.now += TTL - 1
        await interactions.record(event(user, "again"))
        clock.now += TTL - 1
        assert await interactions.unseen(user, ["first", "again"]) == ["first"]

    play(redis_server, scenario)


async def test_a_new_user_takes_one_filter_of_memory(redis_url: str) -> None:
    client = connect(redis_url)
    try:
        await Interactions(client).record(event("u", "i"))
        size = HEADER_BYTES + SeenShape().filter_bytes
        assert await client.strlen(keys.seen("u")) == size
        assert await client.memory_usage(keys.seen("u")) < 1.5 * size
    finally:
        await client.aclose()


async def test_another_shape_counts_as_unseen_and_is_begun_anew(redis_url: str) -> None:
    client = connect(redis_url)
    try:
        before, after = Interactions(client, SeenShape(1000, 0.01)), Interactions(client, SeenShape(500, 0.001))
        await before.record(event("u", "i"))
        assert await after.unseen("u", ["i", "j"]) == ["i", "j"]
        await after.record(event("u", "j"))
        assert await after.unseen("u", ["i", "j"]) == ["i"]
        assert await before.unseen("u", ["i", "j"]) == ["i", "j"]
    finally:
        await client.aclose()


async def test_bitmaps_of_earlier_releases_do_no_harm(redis_url: str) -> None:
    client = connect(redis_url)
    try:
        interactions = Interactions(client)
        await client.set("cascade:seen:u", b"\xff" * 1199, ex=1000)  # it claims to hold everything
        assert await interactions.unseen("u", ["i"]) == ["i"]
        await interactions.record(event("u", "i"))
        assert await interactions.unseen("u", ["i", "j"]) == ["j"]
        assert await interactions.forget("u") == 3
        assert await client.keys("cascade:*:u") == []
    finally:
        await client.aclose()


@pytest.mark.parametrize(("capacity", "rate"), [(0, 0.01), (10, 0.0), (10, 1.0)])
def test_impossible_shapes_are_refused(capacity: int, rate: float) -> None:
    with pytest.raises(ValueError, match="capacity"):
        SeenShape(capacity, rate)
