"""The filter of seen items: how fast 300 ids are tested, how often it is wrong, what it takes.

Side by side with what it was before: one Bloom filter a user, which saturates.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from redis.asyncio import Redis

from bench.figures import shown
from bench.report import Report
from cascade.online import keys
from cascade.online.bloom import Bits, BloomShape, PositionTable
from cascade.online.connection import connect
from cascade.online.generations import GENERATIONS, SeenShape
from cascade.online.interactions import Event, Interactions
from cascade.online.pipelined import PipelinedRedis
from cascade.online.server import AppendFsync, RedisServer, free_port

CANDIDATES = 300
CATALOG = 20_000
LOADS = (10, 30, 100, 300, 1000, 1500, 2000, 3000, 5000)
TOLD = (10, 100, 1000, 5000)


class _OneFilter(BloomShape):
    """As earlier releases sized it."""

    bits = 9592  # type: ignore[assignment]
    hashes = 7  # type: ignore[assignment]


BEFORE = _OneFilter(1000, 0.01)
SEED = 7


def run(report: Report) -> None:
    """See the module."""
    report.say(
        f"A user's string holds at most {GENERATIONS} generations of Bloom filters "
        f"(`cascade.online.generations`); *before* is the one filter of 1,000 items that earlier releases kept. "
        f"A Redis process of its own on loopback, requests one after another, {CANDIDATES} ids a request, drawn from "
        f"{CATALOG:,} items and as fresh from JSON as a request's are.",
    )
    asyncio.run(_run(report))


async def _run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder) / "redis", "everysec") as server:
        client = connect(server.url, timeout_s=10)
        try:
            await _correctness(report, client)
            shared = PipelinedRedis(server.url, 10)
            await _latency(report, client, shared)
            await shared.aclose()
            await _layouts(report, client)
            await _memory(report, client)
        finally:
            await client.aclose()
    await _writes(report)


def _server(folder: Path, appendfsync: AppendFsync) -> RedisServer:
    return RedisServer(folder, free_port(), appendfsync=appendfsync)


# Correctness


async def _correctness(report: Report, client: Redis) -> None:
    """False positives against the exact set; what the newest items get."""
    users = 1 if report.quick else 3
    others = [f"other-{number}" for number in range(20_000)]
    interactions = Interactions(client)
    rates: dict[int, list[float]] = {load: [] for load in LOADS}
    before: dict[int, list[float]] = {load: [] for load in LOADS}
    newest: list[float] = []
    plain_bits = PositionTable(BEFORE).lookup(others)
    for user in (f"rate-{number}" for number in range(users)):
        flags, done = np.zeros(BEFORE.bits, np.uint8), 0
        for load in LOADS:
            ids = [f"{user}-item-{number}" for number in range(load)]
            await _fill(interactions, user, ids[done:])
            for item_id in ids[done:]:
                flags[BEFORE.positions(item_id)] = 1
            done = load
            rates[load].append(1 - len(await interactions.unseen(user, others)) / len(others))
            before[load].append(float(flags[plain_bits].all(axis=0).mean()))
        newest.append(1 - len(await interactions.unseen(user, ids[-1000:])) / 1000)
    for load in TOLD:
        report.figure(f"false_positives.{load}_seen", rates[load], "share", at_most=0.01)
    for load in TOLD:
        report.figure(f"false_positives.{load}_seen.before", before[load], "share", note="one filter, as it was before")
    report.figure("newest_1000_hidden.5000_seen", newest, "share", at_least=1.0)
    with report.plot("false-positives", "items seen", "unseen items hidden by mistake", "An overfull filter") as axes:
        axes.plot(LOADS, [float(np.median(before[load])) for load in LOADS], "o--", label="one filter, before")
        axes.plot(LOADS, [float(np.median(rates[load])) for load in LOADS], "o-", label="generations")
        axes.axhline(0.01, color="grey", linewidth=1, label="configured: 0.01")
        axes.set(xscale="log", ylim=(-0.02, 1.02))
    report.say(
        f"The one filter hid {100 * float(np.median(before[5000])):.0f} % of a shop from whoever had met 5,000 of "
        f"its items; generations hide {100 * float(np.median(rates[5000])):.2f} %, and still all of the newest 1,000. "
        "What goes is the oldest."
    )


async def _fill(interactions: Interactions, user: str, ids: Sequence[str], at_once: int = 16) -> None:
    for start in range(0, len(ids), at_once):
        some = ids[start : start + at_once]
        await asyncio.gather(*(interactions.record(_event(user, item_id)) for item_id in some))


def _event(user: str, item_id: str) -> Event:
    return Event(user, item_id, int(time.time()), "click", "mobile")


# Latency


async def _latency(report: Report, client: Redis, shared: PipelinedRedis) -> None:
    rng = random.Random(SEED)  # noqa: S311
    catalog = [f"item-{number}" for number in range(CATALOG)]
    clicked = rng.sample(catalog, 5000)
    shape = SeenShape()
    interactions = Interactions(client, shape, reader=shared)  # as the service has it
    await _fill(interactions, "full", clicked)
    before = _Before(client)
    await before.fill("full", clicked[:1000])  # full, not overfull: what it was made for
    table, told = PositionTable(shape.filter), PositionTable(BEFORE)
    for warm in (table, told):
        warm.lookup(catalog)
    await interactions.unseen("full", catalog)
    since = time.time() - keys.SEEN_TTL_S
    stored, plain = await client.get(keys.seen("full")), await client.get(keys.seen_before_generations("full"))
    bits, plain_bits = table.lookup(catalog[:CANDIDATES]), told.lookup(catalog[:CANDIDATES])

    async def unseen(ids: list[str]) -> None:
        await interactions.unseen("full", ids)

    async def unseen_before(ids: list[str]) -> None:
        await before.unseen("full", ids, told)

    async def lookup(ids: list[str]) -> None:
        table.lookup(ids)

    async def read(ids: list[str]) -> None:
        await shared.get(keys.seen("full"))

    async def read_before(ids: list[str]) -> None:
        await client.get(keys.seen("full"))

    async def test(ids: list[str]) -> None:
        shape.held(stored, bits, since)

    async def test_before(ids: list[str]) -> None:
        _holds(plain, plain_bits)

    stages: dict[str, Callable[[list[str]], Awaitable[None]]] = {
        "unseen": unseen, "unseen.before": unseen_before, "lookup": lookup, "redis_read": read,
        "redis_read.before": read_before, "test": test, "test.before": test_before,
    }  # fmt: skip
    targets = {"test": 150.0}
    taken: dict[str, list[NDArray[np.float64]]] = {name: [] for name in stages}
    for _ in range(3 if report.quick else 7):
        for name, stage in stages.items():  # turn about, so that a slow moment of the machine meets all of them
            taken[name].append(await _times(stage, catalog, rng, 200 if report.quick else 500))
    notes = {
        "unseen.before": "one filter, 1,000 items seen",
        "test.before": "one filter",
        "redis_read": "a shared connection",
        "redis_read.before": "a client with a pool",
    }
    for name, repeats in taken.items():
        note = notes.get(name, "")
        report.figure(
            f"{name}.p50", [np.percentile(one, 50) for one in repeats], "µs", at_most=targets.get(name), note=note
        )
        report.figure(f"{name}.p99", [np.percentile(one, 99) for one in repeats], "µs", note=note)
    p50 = {name: float(np.median([np.percentile(one, 50) for one in repeats])) for name, repeats in taken.items()}
    parts = await _parts(shared, shape, table, catalog, rng, 400 if report.quick else 2000)
    whole = sum(parts.values())
    report.table(
        ["part of one unseen(), as it is met within a request", "µs, p50", "share"],
        [[what, shown(value), f"{100 * value / whole:.0f} %"] for what, value in parts.items()],
    )
    report.say(
        "Within a request the parts cost more than by themselves in a loop: while it waits for Redis, others use the "
        "caches, and looking up 300 ids is a walk through memory."
    )
    report.say(
        f"Whole `unseen()`: {p50['unseen'] / p50['unseen.before']:.2f} × the time it took before, with eight filters "
        f"tested instead of one ({p50['test'] / p50['test.before']:.2f} × for the test alone). One connection shared "
        "by all requests does without the pool's taking, checking and giving back "
        f"({p50['redis_read'] / p50['redis_read.before']:.2f} × for the read).",
        "What was tried for the test, in µs for 300 ids against eight generations while this was written: a byte a "
        "position that holds one bit a generation, so that one look-up asks all of them (multiply and OR, 5.5; "
        "`packbits` along the other axis, 101; a matrix product, 37), and hashes as rows, so that the AND runs along "
        "whole rows (3 instead of 14). Six hashes a filter instead of the ten that make it smallest cost a tenth more "
        "memory and leave four tenths fewer bits to set, look up and test.",
    )


async def _parts(
    shared: PipelinedRedis, shape: SeenShape, table: PositionTable, catalog: list[str], rng: random.Random, count: int
) -> dict[str, float]:
    """What `Interactions.unseen` does, with a clock between its steps; µs, p50."""
    moments = np.empty((count, 5))
    for number in range(count):
        ids = orjson.loads(orjson.dumps(rng.sample(catalog, CANDIDATES)))
        moments[number, 0] = time.perf_counter()
        stored = await shared.get(keys.seen("full"))
        moments[number, 1] = time.perf_counter()
        bits = table.lookup(ids)
        moments[number, 2] = time.perf_counter()
        seen = shape.held(stored, bits, time.time() - keys.SEEN_TTL_S)
        moments[number, 3] = time.perf_counter()
        list(compress(ids, (~seen).tobytes()))
        moments[number, 4] = time.perf_counter()
    names = ("GET over loopback", "bits of 300 items from the table", "test of eight generations", "list of the unseen")
    return dict(zip(names, (1e6 * np.median(np.diff(moments, axis=1), axis=0)).tolist(), strict=True))


async def _times(
    stage: Callable[[list[str]], Awaitable[None]], catalog: list[str], rng: random.Random, count: int
) -> NDArray[np.float64]:
    """Microseconds of each call, float64 [count]; ids are fresh strings, as a request's are."""
    requests = [orjson.loads(orjson.dumps(rng.sample(catalog, CANDIDATES))) for _ in range(count)]
    taken = np.empty(count)
    for number, ids in enumerate(requests):
        started = time.perf_counter()
        await stage(ids)
        taken[number] = time.perf_counter() - started
    return 1e6 * taken


# What it is compared with


class _Before:
    """One bitmap a user, as earlier releases kept it: one SETBIT a hash, GET, and NumPy bit by bit."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def fill(self, user: str, ids: Sequence[str]) -> None:
        async with self._client.pipeline(transaction=False) as step:
            for item_id in ids:
                for bit in BEFORE.positions(item_id):
                    step.setbit(keys.seen_before_generations(user), bit, 1)
            await step.execute()

    async def unseen(self, user: str, ids: list[str], table: PositionTable) -> list[str]:
        seen = _holds(await self._client.get(keys.seen_before_generations(user)), table.lookup(ids))
        return [item_id for item_id, met in zip(ids, seen.tolist(), strict=True) if not met]


def _holds(bitmap: bytes, bits: Bits) -> NDArray[np.bool_]:
    flags = np.unpackbits(np.frombuffer(bitmap, np.uint8))
    inside = len(flags) > bits.T
    held = flags[np.where(inside, bits.T, 0)].astype(np.bool_) & inside
    return np.logical_and.reduce(held, axis=1)  # type: ignore[no-any-return]


_RECORD_BEFORE = """
local ttl = tonumber(ARGV[1])
local fields = tonumber(ARGV[4])
for i = 5 + fields, #ARGV do
    redis.call('SETBIT', KEYS[1], ARGV[i], 1)
end
redis.call('EXPIRE', KEYS[1], ttl)
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[2]) - 1)
redis.call('EXPIRE', KEYS[2], ttl)
return redis.call('XADD', KEYS[3], '*', unpack(ARGV, 5, 4 + fields))
"""


# Where the generations lie


async def _layouts(report: Report, client: Redis) -> None:
    """The same bytes as one string, as a key a generation, and as fields of one hash."""
    size = SeenShape().filter_bytes
    parts = {f"generation-{number}": random.Random(number).randbytes(size) for number in range(GENERATIONS)}  # noqa: S311
    await client.set("layout:one", b"".join(parts.values()))
    await client.mset({f"layout:{name}": part for name, part in parts.items()})
    await client.hset("layout:hash", mapping=parts)  # type: ignore[misc]

    async def one(ids: list[str]) -> None:
        await client.get("layout:one")

    async def several(ids: list[str]) -> None:
        await client.mget([f"layout:{name}" for name in parts])

    async def fields(ids: list[str]) -> None:
        await client.hmget("layout:hash", list(parts))  # type: ignore[misc]

    layouts = {"one_string": one, "key_a_generation": several, "hash": fields}
    taken: dict[str, list[float]] = {name: [] for name in layouts}
    for _ in range(3 if report.quick else 5):
        for name, read in layouts.items():
            times = await _times(read, ["-"] * CANDIDATES, random.Random(SEED), 200 if report.quick else 500)  # noqa: S311
            taken[name].append(float(np.median(times)))
    notes = {"one_string": "GET", "key_a_generation": "MGET", "hash": "HMGET"}
    for name, samples in taken.items():
        report.figure(f"layout.{name}", samples, "µs", note=f"{notes[name]} of the same bytes, p50")
    report.say(
        "One string was chosen: one reply to parse instead of eight, bits are set where they lie (the field of a hash "
        "would be read and written whole at each click), one key in one slot of a cluster, one time to live."
    )


# Memory


async def _memory(report: Report, client: Redis) -> None:
    interactions = Interactions(client)
    await _fill(interactions, "memory-new", ["item-0"])
    for name, user in (("new_user", "memory-new"), ("full_user", "full")):
        used = await client.memory_usage(keys.seen(user), samples=0)
        report.figure(f"memory.{name}", float(used or 0), "bytes", note="MEMORY USAGE of the key")
    await client.setbit("before", BEFORE.bits - 1, 1)
    used = await client.memory_usage("before", samples=0)
    report.figure("memory.before", float(used or 0), "bytes", note="any user of the one filter")
    report.say(
        f"A user's string is at most {SeenShape().most_bytes:,} bytes, whatever they do: {GENERATIONS} filters of 250 "
        "items, each at an eighth of the error rate."
    )


# Writes


async def _writes(report: Report) -> None:
    """One interaction after another, everything in its step; both releases' steps turn about."""
    count = 300 if report.quick else 1000
    for appendfsync in ("everysec", "always"):
        taken: dict[str, list[float]] = {"": [], ".before": []}
        with tempfile.TemporaryDirectory() as folder, _server(Path(folder) / "redis", appendfsync) as server:  # type: ignore[arg-type]
            client = connect(server.url, timeout_s=10)
            try:
                interactions, script = Interactions(client), client.register_script(_RECORD_BEFORE)
                table = PositionTable(BEFORE)
                for repeat in range(3 if report.quick else 5):
                    ids = [f"item-{repeat}-{number}" for number in range(count)]
                    times = {"": np.empty(count), ".before": np.empty(count)}
                    for number, item_id in enumerate(ids):
                        event = _event("u", item_id)
                        started = time.perf_counter()
                        await interactions.record(event)
                        between = time.perf_counter()
                        await _record_before(script, event, table)
                        times[""][number] = between - started
                        times[".before"][number] = time.perf_counter() - between
                    for name, all_of_it in times.items():
                        taken[name].append(1e6 * float(np.median(all_of_it)))
            finally:
                await client.aclose()
        for name, samples in taken.items():
            note = "one filter" if name else "rotations included"
            report.figure(f"record.{appendfsync}.p50{name}", samples, "µs", note=note)


async def _record_before(script: Any, event: Event, table: PositionTable) -> None:
    bits = table.lookup([event.item_id])[:, 0].tolist()
    fields = [part for pair in event.fields().items() for part in pair]
    recent = f"{event.timestamp}|{event.event_type}|{event.item_id}"
    names = [keys.seen_before_generations(event.user_id), "before:recent", "before:events"]
    await script(keys=names, args=[keys.SEEN_TTL_S, keys.RECENT_MAX, recent, len(fields), *fields, *bits])
