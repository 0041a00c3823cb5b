"""What visitors did, recorded, and what is known of them, forgotten. Knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cascade.api.filter import SeenRequest
from cascade.api.gateway import InteractionRequest
from cascade.errors import CascadeError
from services.gateway.catalog import Catalog
from services.gateway.context import Clock, imputed_timestamp, known_device, system_clock
from services.gateway.ports import FeatureSource, SeenFilter, StageLate


class InteractionRefused(CascadeError):
    """An interaction that cannot be recorded as it is; `field` is at fault."""

    def __init__(self, field: str, value: str | int, message: str) -> None:
        super().__init__(f"{field} {value!r}: {message}")
        self.field = field
        self.value = value
        self.message = message


class NoSuchItem(InteractionRefused):
    """The item is not in the catalog."""


class FromTheFuture(InteractionRefused):
    """The timestamp lies further ahead than clocks differ."""


class FromThePast(InteractionRefused):
    """The timestamp lies longer ago than an event may take to arrive."""


class Visitors:
    """Records interactions and forgets users.

    catalog: gives the catalog in use, or None while none is loaded; then no item can be called unknown
    skew_s: how far ahead of this machine's clock a timestamp may be, in seconds
    oldest_s: how long ago it may be, in seconds
    forget_s: how long the feature store may take to forget a user, in seconds
    """

    def __init__(
        self,
        seen_filter: SeenFilter,
        features: FeatureSource,
        catalog: Callable[[], Catalog | None],
        skew_s: int = 3600,
        oldest_s: int = 30 * 86_400,
        forget_s: float = 1.0,
        clock: Clock = system_clock,
    ) -> None:
        self._filter = seen_filter
        self._features = features
        self._catalog = catalog
        self._skew_s = skew_s
        self._oldest_s = oldest_s
        self._forget_s = forget_s
        self._clock = clock

    async def record(self, request: InteractionRequest) -> str:
        """Record an interaction and return its event id. When it returns, the item is hidden from the user.

        Raises:
            NoSuchItem, FromTheFuture, FromThePast: the request is at fault
            StageError: it is not known to be recorded; try again
        """
        catalog = self._catalog()
        if catalog is not None and request.item_id not in catalog:
            raise NoSuchItem("item_id", request.item_id, "no item of the catalog has this id")
        timestamp = imputed_timestamp(request.timestamp, self._clock)
        if timestamp > self._clock() + self._skew_s:
            raise FromTheFuture(
                "timestamp", timestamp, f"lies more than {self._skew_s} s in the future (UTC seconds since 1970)"
            )
        if timestamp < self._clock() - self._oldest_s:
            raise FromThePast(
                "timestamp", timestamp, f"lies more than {self._oldest_s} s in the past (UTC seconds since 1970)"
            )
        recorded = await self._filter.seen(
            SeenRequest(
                user_id=request.user_id,
                item_id=request.item_id,
                timestamp=timestamp,
                event_type=request.event_type,
                device_type=known_device(request.device_type),
                request_id=request.request_id,
            )
        )
        return recorded.event_id

    async def forget_history(self, user_id: str) -> dict[str, int]:
        """Remove what the user met: every item may be shown again. Raises StageError."""
        return {"history": await self._filter.forget(user_id)}

    async def forget(self, user_id: str) -> dict[str, int]:
        """Remove the user's history and online features. Raises CascadeError."""
        removed = await self.forget_history(user_id)
        try:
            async with asyncio.timeout(self._forget_s):
                return {**removed, "features": await self._features.delete(user_id)}
        except TimeoutError as error:
            raise StageLate("features", f"not forgotten within {self._forget_s:g} s") from error
