"""Users for the page's picker, and what the online store holds of one. Knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from cascade.api.common import EventType, UserFeatures
from cascade.api.storefront import KnownUser, RecentInteraction, UserProfile, UsersResponse
from cascade.errors import CascadeError
from cascade.online.interactions import RecentItem
from cascade.online.known_users import Found
from cascade.serving.server_events import ServerEvent
from services.gateway.catalog import Catalog
from services.gateway.fallbacks import unknown_user
from services.gateway.ports import FeatureSource

_RECENT_SHOWN = 12


class UserIds(Protocol):
    """Ids the online store knows. Methods raise CascadeError."""

    async def some(self, count: int) -> Found: ...

    async def search(self, part: str, count: int) -> Found: ...


class RecentItems(Protocol):
    """A user's latest interactions. Raises CascadeError."""

    async def recent(self, user_id: str, count: int) -> list[RecentItem]: ...


class Users:
    """Every method raises CascadeError where the online store does not answer."""

    def __init__(self, ids: UserIds, features: FeatureSource, recent: RecentItems) -> None:
        self._ids = ids
        self._features = features
        self._recent = recent

    async def find(self, query: str | None, limit: int) -> UsersResponse:
        """Users whose id holds `query`, or some by chance."""
        found = await (self._ids.search(query, limit) if query else self._ids.some(limit))
        features = await asyncio.gather(*map(self._features.get, found.user_ids))
        users = [_known(user_id, one) for user_id, one in zip(found.user_ids, features, strict=True)]
        return UsersResponse(users=users, complete=found.complete)

    async def profile(self, user_id: str, catalog: Catalog | None) -> UserProfile:
        """What is known of one user, who may be a stranger."""
        features, recent = await asyncio.gather(self._features.get(user_id), self.recent(user_id, _RECENT_SHOWN))
        return UserProfile(
            user_id=user_id,
            known=features is not None,
            features=features or unknown_user(user_id),
            recent=[_shown(one, catalog) for one in recent],
        )

    async def features(self, user_id: str) -> UserFeatures:
        """The user's features; those of a stranger where there are none."""
        return await self._features.get(user_id) or unknown_user(user_id)

    async def recent(self, user_id: str, count: int) -> list[RecentItem]:
        """The user's latest interactions, newest first."""
        return await self._recent.recent(user_id, count)

    def watch(self, user_id: str) -> Watch:
        """Tells of changes from now on."""
        return Watch(self, user_id)


@dataclass
class Watch:
    """What changed about one user since it was last asked: features, or interactions (which hide items).

    A store that does not answer is told once, and what changed meanwhile when it answers again.
    """

    users: Users
    user_id: str
    _features: UserFeatures | None = None
    _newest: Sequence[RecentItem] | None = None
    _down: bool = field(default=False)

    async def poll(self) -> list[ServerEvent]:
        """`hello` with the state at first; then `features` and `interactions` when they changed."""
        try:
            features, newest = await asyncio.gather(
                self.users.features(self.user_id), self.users.recent(self.user_id, 1)
            )
        except CascadeError:
            events = [] if self._down else [ServerEvent("unavailable", {"user_id": self.user_id})]
            self._down = True
            return events
        before, known = self._features, self._newest
        self._features, self._newest = features, newest
        events = []
        if before is None:
            events.append(ServerEvent("hello", {"features": features.model_dump()}))
        else:
            if self._down:
                events.append(ServerEvent("available", {"user_id": self.user_id}))
            if newest != known:
                events.append(ServerEvent("interactions", {"newest": newest[0]._asdict() if newest else None}))
            if features != before:
                events.append(
                    ServerEvent("features", {"before": before.model_dump(), "features": features.model_dump()})
                )
        self._down = False
        return events


def _known(user_id: str, found: UserFeatures | None) -> KnownUser:
    features = found or unknown_user(user_id)
    return KnownUser(user_id=user_id, age=features.age, gender=features.gender, top_category=features.top_category)


def _shown(one: RecentItem, catalog: Catalog | None) -> RecentInteraction:
    item = None if catalog is None else catalog.get(one.item_id)
    return RecentInteraction(
        item_id=one.item_id,
        event_type=cast(EventType, one.event_type),
        timestamp=one.timestamp,
        title=None if item is None else item.title,
        category_l1=None if item is None else item.category_l1,
        image=None if item is None else item.image,
    )
