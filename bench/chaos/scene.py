"""One row's course under load: what is done to the fleet, when it was whole again, and what the visitors saw of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pyarrow.parquet as pq

from bench.chaos.fleet import Fleet, Shape
from bench.chaos.others import OthersLoad
from bench.chaos.result import Result, quantile_ms
from bench.chaos.visitors import Asked, Seen, Visitors
from cascade.online import keys

RATE, CLICKS = 100.0, 20.0
WATCHED_S = 3.0
"""How long a fleet is looked at, at least, after it is whole."""
_SETTLED_S = 60.0


@dataclass(frozen=True)
class Row:
    """A fault and what must hold.

    may_degrade: stages that lists may be made without
    p99_ms: bound while the fault lasts; whole_s: bound on the time until whole after the return
    hurt: gateways, by number, whose own failures do not count
    may_reject: whether clicks may be refused with 503 and Retry-After
    longest_s: what there is to see is seen in so many seconds
    """

    name: str
    title: str
    must: str
    blow: Callable[[Scene], Awaitable[None]]
    shape: Shape = field(default_factory=Shape)
    may_degrade: frozenset[str] = frozenset()
    p99_ms: float | None = None
    whole_s: float | None = 5.0
    hurt: tuple[int, ...] = ()
    may_reject: bool = False
    rate: float = RATE
    clicks: float = CLICKS
    longest_s: float = 3600.0


class Scene:
    """What a row's `blow` works with.

    seconds: how long the row is to take, about
    """

    def __init__(self, fleet: Fleet, visitors: Visitors, result: Result, seconds: float) -> None:
        self.fleet = fleet
        self.visitors = visitors
        self.result = result
        self.seconds = seconds
        self.fault: tuple[float, float] | None = None
        self.returned: float | None = None

    async def pass_time(self, share: float) -> None:
        """Let this share of the row's time pass."""
        await asyncio.sleep(share * self.seconds)

    @asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        """The block is the fault; it ends when what was broken is back (or `back_at` tells an earlier moment)."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self.fault = began, ended
        if self.returned is None:
            self.returned = ended

    def back_at(self, moment: float) -> None:
        """What was broken was back at this moment, of time.monotonic."""
        self.returned = moment

    async def see_it_whole(self) -> None:
        """Let the rest of the time pass: long enough to see whether it is whole."""
        await asyncio.sleep(max(WATCHED_S, self.seconds / 3))


async def settled(fleet: Fleet) -> None:
    """Wait until both gateways answer whole lists, several in a row."""
    limit, in_a_row = time.monotonic() + _SETTLED_S, 0
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        while in_a_row < 10:
            answers = [
                await client.post(f"{gateway.url}/v1/recommendations", json={"user_id": f"warm-{in_a_row}"})
                for gateway in fleet.gateways
            ]
            whole = all(one.status_code == 200 and not one.json()["degraded"] for one in answers)
            in_a_row = in_a_row + 1 if whole else 0
            if time.monotonic() > limit:
                raise RuntimeError(f"the fleet does not answer whole lists: {answers[0].text[:300]}")
            await asyncio.sleep(0.02)


async def play(row: Row, fleet: Fleet, seconds: float) -> Result:
    """Let visitors come, do it, and tell what held."""
    seconds = min(seconds, row.longest_s)
    result = Result(row.name, row.title, row.must)
    await settled(fleet)
    visitors = Visitors([one.url for one in fleet.gateways], fleet.users, fleet.items, row.rate, row.clicks)
    scene = Scene(fleet, visitors, result, seconds)
    others = OthersLoad(fleet.pids)
    began = time.monotonic()
    async with visitors.coming(), others.watched():
        await row.blow(scene)
    result.seconds = round(time.monotonic() - began, 1)
    result.others = others.share
    _tell(row, scene, visitors.seen)
    kept = await asyncio.to_thread(kept_events, fleet)
    result.lost = sum(one.event_id not in kept for one in visitors.seen.clicked if one.event_id is not None)
    _judge(row, result)
    return result


def kept_events(fleet: Fleet) -> set[str]:
    """Ids of the events that are in the stream or in the Parquet; the stream is read first, since it empties there."""
    entries = fleet.redis.command("XRANGE", keys.EVENTS, "-", "+")
    kept = {entry[0].decode() for entry in entries}  # type: ignore[attr-defined]
    for file in fleet.settings.dataset_dir.glob("interactions/date=*/live-*.parquet"):
        kept.update(pq.ParquetFile(file).read(columns=["event_id"]).column(0).to_pylist())
    return kept


def _tell(row: Row, scene: Scene, seen: Seen) -> None:
    result = scene.result
    unhurt = [number for number in range(2) if number not in row.hurt]
    asked = [one for one in seen.asked if one.gateway in unhurt]
    result.answers = len(asked)
    result.failed = len(seen.failed(unhurt))
    result.elsewhere = len(seen.failed(row.hurt))
    result.refused = sum(one.status == 429 for one in seen.asked)
    result.degraded = dict(seen.degraded())
    result.p50, result.p99 = _quantiles(asked)
    if scene.fault is not None:
        began, ended = scene.fault
        _, result.p99_during = _quantiles([one for one in asked if began <= one.at <= ended])
    result.accepted = sum(one.status == 202 for one in seen.clicked)
    result.rejected = sum(one.status in (429, 503) and one.retry_after for one in seen.clicked)
    result.click_faults = sum(bool(one.problem) and one.gateway in unhurt for one in seen.clicked)
    result.again = sum(one.shown_again for one in seen.asked)
    if scene.returned is not None:
        bad = [one.at + one.seconds for one in asked if one.status not in (200, 429) or one.degraded]
        late = [moment - scene.returned for moment in bad if moment > scene.returned]
        result.whole_s = round(max(late, default=0.0), 2)
    for problem, count in seen.problems().items():
        result.told.append(f"{count} × {problem}")


def _quantiles(asked: Sequence[Asked]) -> tuple[float, float]:
    seconds = [one.seconds for one in asked if one.status == 200]
    return quantile_ms(seconds, 0.5), quantile_ms(seconds, 0.99)


def _judge(row: Row, result: Result) -> None:
    result.require(result.answers > 0, "nobody was answered")
    result.require(result.failed == 0, f"{result.failed} failed answers")
    others = set(result.degraded) - row.may_degrade
    result.require(not others, f"degraded without cause: {', '.join(sorted(others))}")
    result.require(
        result.click_faults == 0, f"{result.click_faults} clicks neither accepted nor refused with Retry-After"
    )
    result.require(row.may_reject or result.rejected == 0, f"{result.rejected} clicks refused")
    result.require(result.lost == 0, f"{result.lost} accepted clicks lost")
    result.require(result.again == 0, f"{result.again} clicked items in later lists")
    if row.p99_ms is not None:
        result.require(result.p99_during <= row.p99_ms, f"p99 {result.p99_during:.0f} ms during the fault")
    if row.whole_s is not None and result.whole_s is not None:
        result.require(result.whole_s <= row.whole_s, f"whole only {result.whole_s:.1f} s after the return")
