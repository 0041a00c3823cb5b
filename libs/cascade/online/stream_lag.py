"""How far the features worker is behind the event stream, for a page that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cascade.online import keys
from cascade.online.connection import store_errors


@dataclass(frozen=True)
class Lag:
    """seconds: age of the oldest event that is not handled, 0 where all are; waiting: events not handled, at most
    those counted; length: entries in the stream, handled ones that are not trimmed included."""

    seconds: float
    waiting: int
    length: int


async def event_lag(client: Redis, clock: Callable[[], float] = time.time, most: int = 10_000) -> Lag:
    """Of the interactions. Raises OnlineStoreDown.

    most: undelivered events that are counted
    """
    redis: Any = client  # the client's types mix sync and async results
    with store_errors("reading the stream's lag"):
        length = int(await redis.xlen(keys.EVENTS))
        try:
            groups = await redis.xinfo_groups(keys.EVENTS)
        except ResponseError:  # no stream yet
            return Lag(0.0, 0, 0)
        group = next((one for one in groups if _text(one["name"]) == keys.FEATURES_GROUP), None)
        if group is None:  # no worker has been here: all of it waits
            oldest = await redis.xrange(keys.EVENTS, count=1)
            return Lag(_age(oldest[0][0], clock) if oldest else 0.0, length, length)
        pending = await redis.xpending(keys.EVENTS, keys.FEATURES_GROUP)
        after = f"({_text(group['last-delivered-id'])}"
        undelivered = await redis.xrange(keys.EVENTS, min=after, count=most)
    oldest_id = pending["min"] or (undelivered[0][0] if undelivered else None)
    waiting = int(pending["pending"]) + len(undelivered)
    return Lag(0.0 if oldest_id is None else _age(oldest_id, clock), waiting, length)


def _age(entry: bytes | str, clock: Callable[[], float]) -> float:
    return max(clock() - int(_text(entry).partition("-")[0]) / 1000, 0.0)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
