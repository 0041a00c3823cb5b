"""Who may ask the gateway what: one table from path to scope, API keys, the rate of each.

What the table does not name needs an admin key, so that a route which is forgotten here is closed, not open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from cascade.access.api_keys import ApiKey, KeyFile, KeyRing, Scope
from cascade.access.errors import KeyFileUnreadable
from cascade.serving import context
from cascade.serving.errors import NoKey, NoScope
from cascade.serving.guard import LOOKS, PROBES, bearer, is_token
from cascade.serving.internal import REFRESH_PATH
from cascade.serving.logging import get_logger
from services.gateway.access_metrics import AccessMetrics
from services.gateway.rate_limit import RateLimit
from services.gateway.settings import GatewaySettings

INFO_PATH = "/v1/info"
METRICS_PATH = "/metrics"

_OPEN = PROBES | (LOOKS - {METRICS_PATH}) | {"/", INFO_PATH}
_OPEN_BELOW = ("/images/", "/storefront/")
_SCOPES = {
    ("POST", "/v1/recommendations"): Scope.recommend,
    ("POST", "/v1/interactions"): Scope.interact,
    ("GET", "/v1/items"): Scope.recommend,
    ("GET", "/v1/popular"): Scope.recommend,
    ("GET", "/v1/facets"): Scope.recommend,
}
_ALWAYS = "/v1/models/"
"""What changes below needs an admin key in every profile."""

log = get_logger(__name__)


def scope_of(method: str, path: str) -> Scope | None:
    """What a key needs to ask this; None: no key is needed."""
    exact = _SCOPES.get((method, path))
    if exact is not None:
        return exact
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return None
    if method == "GET" and path.startswith("/v1/items/"):
        return Scope.recommend
    if method == "DELETE" and path.startswith("/v1/users/") and path.endswith("/history"):
        return Scope.interact
    return Scope.admin


class ApiGuard:
    """The gateway's Guard. `follow` the file of keys before the first request.

    A key that is offered is checked even where none is needed, so that a wrong one is noticed in a trial.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._file = None if settings.api_keys_file is None else KeyFile(settings.api_keys_file)
        self._poll_s = settings.api_keys_poll_s
        self._required = settings.keys_required
        self._production = settings.in_production
        self._internal_token = settings.internal_token
        self._ring = KeyRing()
        self._limit: RateLimit | None = None
        self._stamp: tuple[int, int, int] | None = None

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return self._required

    @property
    def can_change(self) -> bool:
        """Whether there is a key that changes models."""
        return self._ring.has(Scope.admin)

    async def check(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See Guard. Raises NoKey, NoScope, RateLimited."""
        offered = bearer(headers)
        if path in (REFRESH_PATH, METRICS_PATH):
            self._check_internal(path, offered)
            return
        scope = scope_of(method, path)
        if scope is None:
            return
        if not offered:
            if self._required or (method != "GET" and path.startswith(_ALWAYS)):
                raise NoKey(f"This needs an API key with the scope {scope}: `authorization: Bearer KEY`.")
            return
        key = self._ring.find(offered)
        if key is None:
            raise NoKey("This API key is not known.")
        context.api_key.set(key.id)
        if scope not in key.scopes:
            raise NoScope(f"This needs the scope {scope}; the key {key.id} has {', '.join(sorted(key.scopes))}.")
        if self._limit is not None:
            await self._limit.admit(key)

    async def follow(self, limit: RateLimit, metrics: AccessMetrics) -> asyncio.Task[None]:
        """Read the keys, now and whenever their file changes; → the task that does, to be given to `unfollow`.

        Raises KeyFileUnreadable where their file is none, or keys are needed and there are none.
        """
        self._limit = limit
        count = 0 if self._file is None else await asyncio.to_thread(self._read)
        metrics.keys(count, unreadable=False)
        if self._required:
            if not count:
                raise KeyFileUnreadable("no API key is there and every request needs one; `cascade keys create`")
            log.info("requests need an API key", keys=count)
        else:
            log.warning(
                "requests need no API key: this is the local profile; for others than yourself set "
                "CASCADE_GATEWAY_PROFILE=production"
            )
        return asyncio.create_task(self._follow(metrics), name="follow API keys")

    async def _follow(self, metrics: AccessMetrics) -> None:
        unreadable = False
        while self._file is not None:
            await asyncio.sleep(self._poll_s)
            try:
                await asyncio.to_thread(self._read)
                unreadable = False
            except KeyFileUnreadable as error:  # those known so far go on
                if not unreadable:
                    log.error("API keys cannot be read; those of before stay", error=str(error))
                unreadable = True
            metrics.keys(len(self._ring), unreadable=unreadable)

    def _read(self) -> int:
        """Take over the keys if their file has changed; → how many there are. Raises KeyFileUnreadable."""
        assert self._file is not None  # noqa: S101  (both callers have asked)
        try:
            found = self._file.path.stat()
        except FileNotFoundError:
            if self._stamp is None and not self._required:
                return 0  # a trial without keys
            raise KeyFileUnreadable(f"{self._file.path} is not there") from None
        except OSError as error:
            raise KeyFileUnreadable(f"{self._file.path} cannot be read ({type(error).__name__})") from error
        stamp = found.st_ino, found.st_mtime_ns, found.st_size
        if stamp != self._stamp:
            keys: list[ApiKey] = self._file.read()
            self._ring, before = KeyRing(keys), self._ring
            self._stamp = stamp
            if self._limit is not None:
                self._limit.keep({key.id for key in keys})
            if len(self._ring) or len(before):
                log.info("API keys read", keys=[key.id for key in keys])
        return len(self._ring)

    def _check_internal(self, path: str, offered: bytes | None) -> None:
        if self._internal_token is None or (path == METRICS_PATH and not self._production):
            return  # without a token there is no endpoint that refreshes
        if not is_token(offered, self._internal_token):
            raise NoKey("This endpoint needs the internal token.")


async def unfollow(task: asyncio.Task[None]) -> None:
    """Look at the keys no more."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
