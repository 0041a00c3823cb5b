"""Requests of one API key, bounded over all replicas, without a question to Redis for each.

A replica takes tokens of the shared bucket in small leases and spends them by itself: together the replicas never spend
more than the bucket gave, and at most a tenth of a second's worth lies unused at each of them, for a second. Where
Redis gives no answer the replica counts with a bucket of its own, as large as the shared one, and says so.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from cascade.access.api_keys import ApiKey
from cascade.online.errors import OnlineStoreDown
from cascade.online.token_bucket import Grant
from cascade.serving.errors import RateLimited
from cascade.serving.logging import get_logger

LEASE_S = 0.1
"""How long a lease lasts at the full rate."""
_UNUSED_S = 1.0
_SHORTEST_S = 0.001
_AWAY_S = 1.0
"""For how long Redis is not asked after it gave no answer."""

Take = Callable[[str, float, int, int], Awaitable[Grant]]
"""key id, tokens a second, tokens at most, tokens wanted → Grant. Raises OnlineStoreDown."""

log = get_logger(__name__)


class RateObserver(Protocol):
    """Where it is counted."""

    def rate_limited(self, key_id: str) -> None:
        """A request was refused."""

    def counted_alone(self) -> None:
        """A request was counted without Redis."""


@dataclass
class _Tokens:
    """What this replica holds of one key. Times are of the clock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    left: int = 0
    until: float = 0.0
    none_until: float = 0.0
    alone: float = 0.0
    alone_at: float | None = None


class RateLimit:
    """Lets a key's requests through as far as its rate goes.

    rate, burst: of keys that have none of their own, requests a second and at once
    """

    def __init__(
        self, take: Take, observer: RateObserver, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._take = take
        self._observer = observer
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens: dict[str, _Tokens] = {}
        self._away_until = 0.0
        self._away = False

    async def admit(self, key: ApiKey) -> None:
        """Count a request. Raises RateLimited."""
        held = self._tokens.get(key.id)
        if held is None:
            held = self._tokens[key.id] = _Tokens()
        if self._spend(held, key):
            return
        async with held.lock:  # one asks, the others find what it got
            while not self._spend(held, key):
                await self._refill(held, key)

    def keep(self, key_ids: set[str]) -> None:
        """Forget what is held of other keys."""
        for key_id in self._tokens.keys() - key_ids:
            del self._tokens[key_id]

    def _spend(self, held: _Tokens, key: ApiKey) -> bool:
        now = self._clock()
        if held.left > 0 and now < held.until:
            held.left -= 1
            return True
        if now < held.none_until:
            self._refuse(key, held.none_until - now)
        return False

    async def _refill(self, held: _Tokens, key: ApiKey) -> None:
        rate, burst = key.rate or self._rate, key.burst or self._burst
        if self._clock() >= self._away_until:
            wanted = max(1, min(burst // 4, math.ceil(LEASE_S * rate)))
            try:
                grant = await self._take(key.id, rate, burst, wanted)
            except OnlineStoreDown as error:
                self._tell(away=True, error=str(error))
                self._away_until = self._clock() + _AWAY_S
            else:
                self._tell(away=False)
                held.alone_at = None
                held.left, held.until = grant.tokens, self._clock() + _UNUSED_S
                held.none_until = 0.0 if grant.tokens else self._clock() + max(grant.wait_s, _SHORTEST_S)
                return
        self._refill_alone(held, rate, burst)

    def _refill_alone(self, held: _Tokens, rate: float, burst: int) -> None:
        now = self._clock()
        gained = burst if held.alone_at is None else (now - held.alone_at) * rate
        held.alone, held.alone_at = min(float(burst), held.alone + gained), now
        if held.alone < 1:
            held.none_until = now + max((1 - held.alone) / rate, _SHORTEST_S)
            return
        held.alone -= 1
        held.left, held.until = 1, now + _UNUSED_S
        self._observer.counted_alone()

    def _refuse(self, key: ApiKey, wait_s: float) -> None:
        self._observer.rate_limited(key.id)
        raise RateLimited(f"key {key.id} has made its requests", wait_s)

    def _tell(self, *, away: bool, error: str | None = None) -> None:
        """Log a change of state, not every request."""
        if away and not self._away:
            log.warning("requests of keys are counted by each gateway for itself", error=error)
        elif self._away and not away:
            log.info("requests of keys are counted together again")
        self._away = away
