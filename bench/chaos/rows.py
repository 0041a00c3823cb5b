"""The faults that happen under load: what is done, and what must hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from bench.chaos import bundles, soak
from bench.chaos.fleet import Member, RedisMember, Shape, ready
from bench.chaos.result import quantile_ms
from bench.chaos.scene import RATE, Row, Scene
from bench.chaos.visitors import Visitors
from cascade.online import keys
from cascade.serving.calls import CallError
from cascade.serving.tcp_calls import TcpCaller

Blow = Callable[[Scene], Awaitable[None]]

CAPACITY = 345.0
"""Lists a second with p99 within 100 ms, by `make bench` on two cores."""
HALF_LOAD = 85.0
"""Half of what these processes and the load generator, which is Python on the same two cores, can do together: at 172
lists a second, each asked for when it is due, both cores were full and half of a list's time was waiting."""
FROM_REDIS = frozenset({"features", "filter"})
P99_MS = 250.0
_BACKLOG = 60
_ANSWERS_GO_ON = "0 failed answers, degraded ones named; every 202 kept"


def victim(scene: Scene, name: str) -> Member | RedisMember:
    """The process of that name."""
    return scene.fleet.redis if name == "redis" else scene.fleet.members[name]


def killed(name: str) -> Blow:
    """SIGKILL, down for a third of the time, started again."""

    async def blow(scene: Scene) -> None:
        member = victim(scene, name)
        gateway = _number(name)
        await scene.pass_time(1 / 6)
        async with scene.broken():
            if gateway is not None:
                scene.visitors.listed.remove(gateway)
            await asyncio.to_thread(member.kill)
            await scene.pass_time(1 / 3)
            began = time.monotonic()
            await asyncio.to_thread(member.start)
            scene.back_at(await member.ready())
            scene.result.told.append(f"started in {time.monotonic() - began:.1f} s")
        if gateway is not None:
            scene.visitors.listed.append(gateway)
        await _caught_up(scene, name)
        await scene.see_it_whole()

    return blow


def hung(name: str) -> Blow:
    """SIGSTOP for a third of the time. A gateway is taken off the list after a second, as its probe would tell."""

    async def blow(scene: Scene) -> None:
        member = victim(scene, name)
        gateway = _number(name)
        await scene.pass_time(1 / 6)
        async with scene.broken():
            member.freeze()
            try:
                if gateway is not None:
                    await asyncio.sleep(1.0)
                    scene.visitors.listed.remove(gateway)
                await scene.pass_time(1 / 3)
            finally:
                member.thaw()
        if gateway is not None:
            await asyncio.sleep(1.0)
            scene.visitors.listed.append(gateway)
        await _caught_up(scene, name)
        await scene.see_it_whole()

    return blow


async def _caught_up(scene: Scene, name: str) -> None:
    """Of the features worker: how long until the stream was empty but for what has just come."""
    if name != "features":
        return
    began = time.monotonic()
    while int(scene.fleet.redis.command("XLEN", keys.EVENTS)) > _BACKLOG:  # type: ignore[call-overload]
        if time.monotonic() - began > 60:
            scene.result.require(False, "the worker has not caught up after 60 s")
            return
        await asyncio.sleep(0.1)
    scene.result.told.append(f"stream caught up {time.monotonic() - (scene.returned or began):.1f} s after the return")


def _number(name: str) -> int | None:
    return int(name.removeprefix("gateway-")) - 1 if name.startswith("gateway-") else None


# Redis


async def redis_is_slow(scene: Scene) -> None:
    """Each answer of Redis takes 100 ms longer."""
    await _through_proxy(scene, delay_s=0.1, resets=False)


async def redis_resets(scene: Scene) -> None:
    """Each connection to Redis is broken when something is asked on it."""
    await _through_proxy(scene, delay_s=0.0, resets=True)


async def _through_proxy(scene: Scene, delay_s: float, resets: bool) -> None:
    proxy = scene.fleet.proxy
    assert proxy is not None
    await scene.pass_time(1 / 6)
    async with scene.broken():
        proxy.delay_s, proxy.resets = delay_s, resets
        await scene.pass_time(1 / 3)
        proxy.delay_s, proxy.resets = 0.0, False
    await scene.see_it_whole()


async def redis_is_full(scene: Scene) -> None:
    """`maxmemory` below what it holds, nothing may be evicted: every write is refused."""
    command = scene.fleet.redis.command
    command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await scene.pass_time(1 / 6)
    async with scene.broken():
        command("CONFIG", "SET", "maxmemory", "1mb")
        await scene.pass_time(1 / 3)
        command("CONFIG", "SET", "maxmemory", "0")
    await scene.see_it_whole()


async def redis_is_read_only(scene: Scene) -> None:
    """It has become the replica of a server that cannot be reached, as in a failover: it reads and does not write."""
    command = scene.fleet.redis.command
    await scene.pass_time(1 / 6)
    async with scene.broken():
        command("REPLICAOF", "127.0.0.1", "1")
        await scene.pass_time(1 / 3)
        command("REPLICAOF", "NO", "ONE")
    await scene.see_it_whole()


# Too much, and one after another


async def overload(scene: Scene) -> None:
    """Five times as many visitors as can be served come for a third of the time."""
    gateways = scene.fleet.gateways
    crowd = Visitors([one.url for one in gateways], scene.fleet.users, scene.fleet.items, 5 * CAPACITY - RATE, 0, 11)
    healthy: list[float] = []
    callers = [TcpCaller(one.url) for one in gateways]

    async def look() -> None:
        while True:
            for caller in callers:
                for path in ("/healthz", "/readyz"):
                    began = time.monotonic()
                    try:
                        answer = await caller.call("GET", path, b"", {}, 2.0)
                        status = answer.status
                    except CallError:
                        status = 0
                    healthy.append(time.monotonic() - began)
                    scene.result.require(status == 200, f"{path} answered {status} during the overload")
            await asyncio.sleep(0.2)

    await scene.pass_time(1 / 6)
    async with scene.broken():
        looking = asyncio.create_task(look())
        async with crowd.coming():
            await scene.pass_time(1 / 3)
        looking.cancel()
    for caller in callers:
        await caller.aclose()
    seen, result = crowd.seen, scene.result
    admitted = [one.seconds for one in seen.asked if one.status == 200]
    refused = sum(one.status == 429 and not one.problem for one in seen.asked)
    others = seen.failed((0, 1))
    began, ended = scene.fault or (0.0, 1.0)
    result.told.append(
        f"of {len(seen.asked):,} more, {len(admitted):,} admitted with p99 {quantile_ms(admitted, 0.99):.0f} ms, "
        f"{refused:,} refused; {len(seen.asked) / (ended - began):,.0f} a second came; "
        f"health answered with p99 {quantile_ms(healthy, 0.99):.0f} ms"
    )
    result.require(refused > 0, "nobody was refused: it was no overload")
    result.require(not others, f"{len(others)} of the crowd were neither admitted nor refused")
    result.require(quantile_ms(admitted, 0.99) <= P99_MS, f"p99 of the admitted {quantile_ms(admitted, 0.99):.0f} ms")
    await scene.see_it_whole()


async def rolling_restart(scene: Scene) -> None:
    """SIGTERM and start again, one process after another; a gateway leaves the balancer's list first."""
    await scene.pass_time(1 / 12)
    for name, member in list(scene.fleet.members.items()):
        gateway = _number(name)
        if gateway is not None:
            scene.visitors.listed.remove(gateway)
            await asyncio.sleep(0.3)
        code = await member.end()
        scene.result.require(code in (0, -15), f"{name} ended with {code}")
        member.start()
        await ready([member])
        if gateway is not None:
            scene.visitors.listed.append(gateway)
        await asyncio.sleep(1.0)
    scene.result.told.append(f"{len(scene.fleet.members)} processes")


# Time


async def clocks_are_off(scene: Scene) -> None:
    """The gateways' clocks are an hour ahead and an hour behind; clicks and requests of strange times come."""
    now = int(time.time())
    item = scene.fleet.items[0]
    expected = {
        "1970": (0, 422),
        "2100": (4_102_444_800, 422),
        "beyond 2100": (4_102_444_801, 422),
        "in two days": (now + 172_800, 422),
        "now": (now, 202),
        "the hour that summer time skips, of this machine's UTC": (now - 3600, 202),
        "yesterday": (now - 86_400, 202),
    }
    await scene.pass_time(1 / 6)
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for gateway in scene.fleet.gateways:
            for what, (timestamp, wanted) in expected.items():
                click = {"user_id": "traveller", "item_id": item, "timestamp": timestamp}
                answer = await client.post(f"{gateway.url}/v1/interactions", json=click)
                named = answer.status_code != 422 or answer.json()["errors"][0]["field"] == "timestamp"
                scene.result.require(
                    answer.status_code == wanted and named, f"a click of {what} was answered {answer.status_code}"
                )
                ask = {"user_id": "traveller", "timestamp": timestamp}
                answer = await client.post(f"{gateway.url}/v1/recommendations", json=ask)
                fine = 422 if timestamp > 4_102_444_800 else 200
                scene.result.require(answer.status_code == fine, f"a list for {what} was answered {answer.status_code}")
    await scene.see_it_whole()


_STAGES = {"retrieval": frozenset({"retrieval"}), "filter": frozenset({"filter"}), "ranker": frozenset({"ranker"})}
_STAGES |= {"features": frozenset(), "redis": FROM_REDIS, "gateway-1": frozenset()}
_CLICKS_NEED = frozenset({"filter", "redis"})

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        *(
            Row(
                f"kill-{name.removesuffix('-1')}",
                f"kill -9, then restart: {_shown}",
                "0 failed answers at the surviving gateway, whole ≤ 5 s after return",
                killed(name),
                may_degrade=degraded,
                hurt=(0,) if name == "gateway-1" else (),
                may_reject=name in _CLICKS_NEED,
            )
            for name, degraded in _STAGES.items()
            for _shown in [name.replace("features", "features worker").replace("gateway-1", "one of two gateways")]
        ),
        *(
            Row(
                f"stop-{name.removesuffix('-1')}",
                f"SIGSTOP, then SIGCONT: {_shown}",
                "p99 ≤ 250 ms while it hangs, back by a probe",
                hung(name),
                may_degrade=degraded,
                p99_ms=P99_MS,
                hurt=(0,) if name == "gateway-1" else (),
                may_reject=name in _CLICKS_NEED,
            )
            for name, degraded in _STAGES.items()
            for _shown in [name.replace("features", "features worker").replace("gateway-1", "one of two gateways")]
        ),
        Row(
            "redis-slow", "Redis answers 100 ms later", _ANSWERS_GO_ON, redis_is_slow, Shape(proxied=True),
            FROM_REDIS | {"retrieval", "ranker"}, may_reject=True,
        ),
        Row(
            "redis-resets", "Redis's connections are reset", _ANSWERS_GO_ON, redis_resets, Shape(proxied=True),
            FROM_REDIS, may_reject=True,
        ),
        Row("redis-full", "Redis is full (maxmemory)", _ANSWERS_GO_ON, redis_is_full, may_reject=True),
        Row("redis-read-only", "Redis is read-only", _ANSWERS_GO_ON, redis_is_read_only, may_reject=True),
        *bundles.ROWS,
        Row(
            "overload", "5 times the capacity",
            "429 with Retry-After, admitted p99 ≤ 250 ms, health answers, recovers at once",
            overload, Shape(environment=(("CASCADE_GATEWAY_MAX_IN_FLIGHT", "12"),)),
            may_degrade=frozenset({"features", "retrieval", "filter", "ranker"}), whole_s=1.0, may_reject=True,
        ),
        Row(
            "rolling-restart", "Rolling restart of everything", "0 failed requests", rolling_restart,
            Shape(replicas=2),
        ),
        Row(
            "clock-skew", "Clocks ±1 h, times from 1970 and 2100", "refused clearly or handled correctly",
            clocks_are_off, Shape(skews_s=(3600.0, -3600.0)), longest_s=20.0,
        ),
        Row(
            "soak", "Soak at half load", "after a warm-up: 0 errors, memory of each service +1 % at most, files flat",
            soak.soak, soak.SHAPE, rate=HALF_LOAD,
        ),
    )
}  # fmt: skip
"""Rows under load, by name."""
