"""Visitors who come at a steady rate, whether or not earlier ones were answered, and click; every answer is kept.

They come through two gateways, turn about, as a load balancer would send them; one that is out of its list gets nobody.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cascade.serving.calls import Answer, CallError
from cascade.serving.tcp_calls import TcpCaller

PATIENCE_S = 5.0
_JSON = {"content-type": "application/json"}
_UNKNOWN_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """One list asked for.

    gateway: number of the one asked; at: when, of time.monotonic; seconds: from the moment it was due
    status: 0 where there was no answer; problem: what was wrong
    shown_again: items in the list that the user had clicked before it was asked for
    """

    gateway: int
    at: float
    seconds: float
    status: int
    degraded: tuple[str, ...] = ()
    problem: str = ""
    shown_again: int = 0


@dataclass(frozen=True, slots=True)
class Clicked:
    """One click. event_id: where it was answered with 202; retry_after: whether a refusal told when to come again."""

    gateway: int
    at: float
    seconds: float
    status: int
    event_id: str | None = None
    retry_after: bool = False
    problem: str = ""


@dataclass
class Seen:
    """What the visitors saw."""

    asked: list[Asked] = field(default_factory=list)
    clicked: list[Clicked] = field(default_factory=list)

    def failed(self, gateways: Sequence[int]) -> list[Asked]:
        """Lists that were none, of these gateways. A refusal with 429 is an answer of its own kind, and not here."""
        return [one for one in self.asked if one.status not in (200, 429) and one.gateway in gateways]

    def degraded(self) -> Counter[str]:
        """Stage → lists made without it."""
        return Counter(stage for one in self.asked for stage in one.degraded)

    def problems(self) -> Counter[str]:
        """What went wrong, in words."""
        return Counter(one.problem for one in (*self.asked, *self.clicked) if one.problem)


class Visitors:
    """Ask `rate` lists and make `clicks` clicks a second.

    urls: of the gateways
    """

    def __init__(
        self, urls: Sequence[str], users: Sequence[str], items: Sequence[str], rate: float, clicks: float, seed: int = 7
    ) -> None:
        self.seen = Seen()
        self.listed = list(range(len(urls)))
        self._callers = [TcpCaller(url, max_connections=1024) for url in urls]
        self._users = users
        self._items = items
        self._rate = rate
        self._clicks = clicks
        self._random = random.Random(seed)  # noqa: S311  (which visitors come is no secret)
        self._met: dict[str, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """While the block runs; after it, all of them have been answered."""
        senders = [asyncio.create_task(self._come(self._rate, self._ask))]
        if self._clicks:
            senders.append(asyncio.create_task(self._come(self._clicks, self._click)))
        try:
            yield
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, *self._tasks, return_exceptions=True)
            for caller in self._callers:
                await caller.aclose()

    async def _come(self, rate: float, visit: object) -> None:
        began, number = time.monotonic(), 0
        while True:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            gateway = self.listed[number % len(self.listed)]
            task = asyncio.create_task(visit(gateway, due))  # type: ignore[operator]
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1

    def _user(self) -> str:
        if self._random.random() < _UNKNOWN_SHARE:
            return f"nobody-{self._random.randrange(10**6)}"
        return self._random.choice(self._users)

    async def _send(self, gateway: int, path: str, message: dict[str, object]) -> Answer | CallError:
        try:
            return await self._callers[gateway].call("POST", path, json.dumps(message).encode(), _JSON, PATIENCE_S)
        except CallError as error:
            return error

    async def _ask(self, gateway: int, due: float) -> None:
        user = self._user()
        met = set(self._met.get(user, ()))
        answer = await self._send(gateway, "/v1/recommendations", {"user_id": user, "k": 10, "device_type": "mobile"})
        took = time.monotonic() - due
        if isinstance(answer, CallError):
            problem = f"no answer: {type(answer).__name__}"
            self.seen.asked.append(Asked(gateway, due, took, 0, problem=problem))
            return
        if answer.status != 200:
            problem = "" if answer.status == 429 and "retry-after" in answer.headers else f"status {answer.status}"
            self.seen.asked.append(Asked(gateway, due, took, answer.status, problem=problem))
            return
        content = json.loads(answer.body)
        degraded, items = tuple(content["degraded"]), content["items"]
        again = 0 if "filter" in degraded else sum(item["item_id"] in met for item in items)
        problem = "" if len(items) == 10 else f"a list of {len(items)}"
        self.seen.asked.append(Asked(gateway, due, took, 200, degraded, problem, again))

    async def _click(self, gateway: int, due: float) -> None:
        user, item = self._user(), self._random.choice(self._items)
        answer = await self._send(gateway, "/v1/interactions", {"user_id": user, "item_id": item})
        took = time.monotonic() - due
        if isinstance(answer, CallError):
            problem = f"click without answer: {type(answer).__name__}"
            self.seen.clicked.append(Clicked(gateway, due, took, 0, problem=problem))
            return
        if answer.status == 202:
            self._met.setdefault(user, set()).add(item)
            event_id = json.loads(answer.body)["event_id"]
            self.seen.clicked.append(Clicked(gateway, due, took, 202, event_id))
            return
        told = "retry-after" in answer.headers
        problem = "" if answer.status in (429, 503) and told else f"click refused with {answer.status}"
        self.seen.clicked.append(Clicked(gateway, due, took, answer.status, retry_after=told, problem=problem))
