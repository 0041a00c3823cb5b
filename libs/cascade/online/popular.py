"""Popular items: written whole by each build, read by the gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import redis
from redis.asyncio import Redis

from cascade.online import keys
from cascade.online.connection import store_errors

Ranked = Sequence[tuple[str, float]]
"""(item id, count), best first."""


def write_popular(
    client: redis.Redis, everywhere: Ranked, by_l1: Mapping[str, Ranked], by_l2: Mapping[str, Ranked]
) -> int:
    """Replace all popularity lists in one transaction; returns how many there are now.

    Lists of categories that are no longer named go. Raises OnlineStoreDown.
    """
    lists = {
        keys.POPULAR_GLOBAL: everywhere,
        **{keys.popular_l1(category): ranked for category, ranked in by_l1.items()},
        **{keys.popular_l2(category): ranked for category, ranked in by_l2.items()},
    }
    with store_errors("writing popular items"):
        stale = sorted(_present(client) - lists.keys())
        with client.pipeline(transaction=True) as step:
            for key, ranked in lists.items():
                step.set(key, json.dumps([[item_id, count] for item_id, count in ranked], ensure_ascii=False))
            if stale:
                step.unlink(*stale)
            step.execute()
    return len(lists)


def _present(client: redis.Redis) -> set[str]:
    found: set[str] = set()
    for prefix in (keys.popular_l1(""), keys.popular_l2("")):
        found |= {_text(key) for key in client.scan_iter(match=f"{prefix}*", count=1000)}
    return found


class PopularItems:
    """Reads the lists. Every method raises OnlineStoreDown where Redis does not answer."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def everywhere(self) -> list[tuple[str, float]]:
        """Of the whole shop; empty before the first build."""
        return await self._read(keys.POPULAR_GLOBAL)

    async def of_l1(self, category: str) -> list[tuple[str, float]]:
        """Of a top-level category; empty for one without a list."""
        return await self._read(keys.popular_l1(category))

    async def of_l2(self, category: str) -> list[tuple[str, float]]:
        """Of a second-level category; empty for one without a list."""
        return await self._read(keys.popular_l2(category))

    async def _read(self, key: str) -> list[tuple[str, float]]:
        with store_errors("reading popular items"):
            value = await self._client.get(key)
        return [] if value is None else [(item_id, float(count)) for item_id, count in json.loads(value)]


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key
