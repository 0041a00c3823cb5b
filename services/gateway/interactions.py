"""What visitors did, recorded, and what is known of them, forgotten. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from cascade.api.filter import SeenRequest
from cascade.api.gateway import ForgettingReceipt, InteractionRequest
from cascade.errors import CascadeError
from cascade.privacy import receipts
from services.gateway.catalog import Catalog
from services.gateway.context import Clock, imputed_timestamp, known_device, system_clock
from services.gateway.ports import SeenFilter


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
    redis: the online store, which takes requests to forget
    oldest_s: how long ago it may be, in seconds
    """

    def __init__(
        self,
        seen_filter: SeenFilter,
        redis: Redis,
        catalog: Callable[[], Catalog | None],
        skew_s: int = 3600,
        oldest_s: int = 30 * 86_400,
        clock: Clock = system_clock,
    ) -> None:
        self._filter = seen_filter
        self._redis = redis
        self._catalog = catalog
        self._skew_s = skew_s
        self._oldest_s = oldest_s
        self._clock = clock

    async def record(self, request: InteractionRequest) -> str:
        """Record an interaction and return its event id. When it returns, the item is hidden from the user.

        Raises:
            NoSuchItem, FromTheFuture, FromThePast: the request is at fault
            StageError: it is not known to be recorded; try again
            ForgottenUser: nothing of this user is recorded any more
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

    async def forget(self, user_id: str) -> ForgettingReceipt:
        """Forget a user online and keep the id out from now on; the rest is queued. Raises OnlineStoreDown.

        Where it raises, nothing was done: everything online goes by one step, or stays.
        """
        return ForgettingReceipt.model_validate(await receipts.begin(self._redis, user_id))

    async def receipt(self, receipt: str) -> ForgettingReceipt:
        """How far a forgetting has come. Raises NoSuchReceipt, OnlineStoreDown."""
        return ForgettingReceipt.model_validate(await receipts.read(self._redis, receipt))
