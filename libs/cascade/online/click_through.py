"""Of the latest lists shown, how many were clicked, by track; for a page that shows it, at no cost to a request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from cascade.online import keys
from cascade.online.connection import store_errors
from cascade.online.impressions import PAYLOAD

STABLE, CANARY = "stable", "canary"


@dataclass(frozen=True)
class Clicked:
    """Lists shown, and those of them with a click (a view, a purchase; not a refusal)."""

    lists: int
    clicked: int


async def click_through(client: Redis, most: int = 500) -> dict[str, Clicked]:
    """By track: `canary` where any service answered from its canary, else `stable`. Raises OnlineStoreDown.

    most: how many of the latest lists are looked at; handled ones leave the stream
    """
    redis: Any = client  # the client's types mix sync and async results
    with store_errors("reading the latest lists"):
        entries = await redis.xrevrange(keys.IMPRESSIONS, count=most)
        shown = [orjson.loads(fields[PAYLOAD.encode()]) for _, fields in entries]
        async with redis.pipeline(transaction=False) as step:
            for one in shown:
                step.scard(keys.clicked(one["request_id"]))
            counts = await step.execute() if shown else []
    tracks = [CANARY if CANARY in one["tracks"].values() else STABLE for one in shown]
    lists, clicked = Counter(tracks), Counter(track for track, count in zip(tracks, counts, strict=True) if count)
    return {track: Clicked(lists[track], clicked[track]) for track in sorted(lists)}
