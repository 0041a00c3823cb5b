"""Users that the online store holds features of, for people who look at the shop: a few by chance, or by part of an id.

Feast's keys are the list; nothing else is kept. A search walks the keys and is bounded in steps, so that it never holds
the server long: over many users it may end before it has seen all, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from cascade.online.connection import store_errors
from cascade.online.feast_rows import row_key, user_of

_DRAWS = 4
"""RANDOMKEYs for each user wanted: other keys are drawn as well."""
_STEP = 2000
_MOST_STEPS = 50
"""Keys looked at for one search, at most: 100,000."""
_GLOB = str.maketrans({char: f"\\{char}" for char in "*?[]\\^"})


@dataclass(frozen=True)
class Found:
    """Distinct user ids. complete: whether every user was looked at, or as many found as were asked for."""

    user_ids: list[str]
    complete: bool


class KnownUsers:
    """Over one async client. Methods raise OnlineStoreDown."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def some(self, count: int) -> Found:
        """Users drawn by chance; fewer than `count` where there are few."""
        with store_errors("drawing users"):
            async with self._client.pipeline(transaction=False) as step:
                for _ in range(_DRAWS * count):
                    step.randomkey()
                drawn = await step.execute()
        users = dict.fromkeys(user for key in drawn if key is not None and (user := user_of(key)) is not None)
        return Found(list(users)[:count], complete=True)

    async def search(self, part: str, count: int) -> Found:
        """Users whose id holds `part`: the one of that very id first, then by id."""
        found: set[str] = set()
        pattern = f"*{part.translate(_GLOB)}*".encode()
        cursor, complete = 0, False
        with store_errors("searching users"):
            exact = bool(await self._client.exists(row_key(part)))
            for _ in range(_MOST_STEPS):
                cursor, page = await self._client.scan(cursor, match=pattern, count=_STEP)
                found.update(user for key in page if (user := user_of(key)) is not None and part in user)
                complete = cursor == 0
                if complete or len(found) >= count:
                    break
        first = [part] if exact else []
        others = sorted(found - set(first))[: count - len(first)]
        return Found([*first, *others], complete or len(found) >= count)
