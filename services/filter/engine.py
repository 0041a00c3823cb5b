"""What the filter does, free of HTTP: test ids against the user's Bloom filter, record interactions, forget."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cascade import deadline, tracing
from cascade.api.filter import FilterRequest, SeenRequest
from cascade.online.interactions import Event, Interactions
from cascade.serving.limit import ConcurrencyLimit
from cascade.serving.metrics import ServiceMetrics


@dataclass(frozen=True)
class Filtered:
    """Unseen ids in the order received. compute_ms holds the round trip to Redis and the test."""

    item_ids: list[str]
    dropped: int
    queue_ms: float
    compute_ms: float


class FilterEngine:
    """Every method may raise OnlineStoreDown (of that request alone), QueueFull and DeadlineSpent."""

    def __init__(self, interactions: Interactions, limit: ConcurrencyLimit, metrics: ServiceMetrics) -> None:
        self._interactions = interactions
        self._limit = limit
        self._metrics = metrics

    async def unseen(self, request: FilterRequest) -> Filtered:
        """The ids that the user has not met within the time to live."""
        async with deadline.kept(), self._limit.slot() as waited_s:
            started = time.perf_counter()
            with tracing.span("compute"):
                item_ids = await self._interactions.unseen(request.user_id, request.item_ids)
            took_s = time.perf_counter() - started
        self._metrics.compute.observe(took_s, tracing.exemplar())
        return Filtered(item_ids, len(request.item_ids) - len(item_ids), 1000 * waited_s, 1000 * took_s)

    async def record(self, request: SeenRequest) -> str:
        """Write an interaction whole, and once under its write id; returns its event's id."""
        event = Event(
            user_id=request.user_id,
            item_id=request.item_id,
            timestamp=request.timestamp,
            event_type=request.event_type,
            device_type=request.device_type,
            request_id=request.request_id,
        )
        async with self._limit.slot():
            deadline.require()  # before the write; once it is begun it is finished
            return await self._interactions.record(event, request.write_id)

    async def forget(self, user_id: str) -> int:
        """Remove what is known of the user's seen and recent items; returns how many keys there were."""
        async with self._limit.slot():
            return await self._interactions.forget(user_id)
