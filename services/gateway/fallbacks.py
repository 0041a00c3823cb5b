"""What stands in for a stage that gave no answer.

| stage | stands in |
| --- | --- |
| features | the user's id alone: every feature unknown |
| retrieval | popular items: the user's top category first, then the whole shop |
| filter | every candidate |
| ranker | the candidates in retrieval's order, without scores |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cascade import deadline
from cascade.api.common import UserFeatures
from cascade.errors import CascadeError
from services.gateway.ports import PopularItems

Ranked = Sequence[tuple[str, float]]


def unknown_user(user_id: str) -> UserFeatures:
    """A user of whom nothing is known: out-of-vocabulary rows and the mean age."""
    return UserFeatures(user_id=user_id)


async def popular_candidates(popular: PopularItems, user: UserFeatures, count: int) -> list[str]:
    """Up to `count` popular ids, each once: those of the user's top category first, then the shop's."""
    own = await popular.top(user.top_category, count) if user.top_category else []
    ids = dict.fromkeys(item_id for item_id, _ in own)
    if len(ids) < count:
        ids.update(dict.fromkeys(item_id for item_id, _ in await popular.top(None, count)))
    return list(ids)[:count]


class BundledPopularity:
    """Popularity as of the bundle: in memory, so it answers when nothing else does."""

    def __init__(self, global_: Ranked, by_l1: Mapping[str, Ranked], by_l2: Mapping[str, Ranked]) -> None:
        self._global = global_
        self._by_l1 = by_l1
        self._by_l2 = by_l2

    async def top(self, category: str | None, k: int) -> list[tuple[str, float]]:
        """See PopularItems."""
        if category is None:
            return list(self._global[:k])
        return list((self._by_l1.get(category) or self._by_l2.get(category) or ())[:k])


class PopularLists(Protocol):
    """The lists the build writes to Redis. Methods raise CascadeError when Redis does not answer."""

    async def everywhere(self) -> list[tuple[str, float]]: ...

    async def of_l1(self, category: str) -> list[tuple[str, float]]: ...

    async def of_l2(self, category: str) -> list[tuple[str, float]]: ...


class RedisPopularity:
    """Popularity as of the last build. Unlike the bundle's it may fail."""

    def __init__(self, lists: PopularLists) -> None:
        self._lists = lists

    async def top(self, category: str | None, k: int) -> list[tuple[str, float]]:
        """See PopularItems; raises CascadeError."""
        if category is None:
            return (await self._lists.everywhere())[:k]
        return (await self._lists.of_l1(category) or await self._lists.of_l2(category))[:k]


class FirstThatAnswers:
    """A fresher source, and the bundle's list behind it for when the fresher one fails, hangs or holds nothing.

    timeout_s: how long the fresher source may take, in seconds; less where the request has less left
    on_failure: told of every failure of the fresher source
    """

    def __init__(
        self,
        fresh: PopularItems,
        bundled: PopularItems,
        timeout_s: float,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._fresh = fresh
        self._bundled = bundled
        self._timeout_s = timeout_s
        self._on_failure = on_failure

    async def top(self, category: str | None, k: int) -> list[tuple[str, float]]:
        """See PopularItems."""
        try:
            async with asyncio.timeout(deadline.at_most(self._timeout_s)):
                found = await self._fresh.top(category, k)
        except (CascadeError, TimeoutError) as error:
            self._on_failure(error)
            found = []
        return found or await self._bundled.top(category, k)
