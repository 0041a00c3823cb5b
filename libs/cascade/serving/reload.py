"""The bundle that serves, and how a new one takes its place.

A holder follows an alias of the model store. A new version is verified, loaded and warmed up in a thread beside the
one that serves, then swapped in by one assignment: work in flight keeps the object it began with, and the old version
goes when the last of it ends. A version that is refused leaves the old one in place.

The holder of a passing alias (`canary`) differs in two things: where the alias is gone, so is the bundle; and it never
holds a version that the alias does not name, so a new one is brought up after the old one has left memory.
"""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cascade.serving.errors import NotReady
from cascade.serving.logging import get_logger
from cascade.serving.metrics import ServiceMetrics
from cascade.store.bundles import Bundle
from cascade.store.errors import BundleNotFound

T = TypeVar("T")

_MAX_BACKOFF_S = 60.0

log = get_logger(__name__)


class BundleStore(Protocol):
    """What a holder needs of the model store."""

    def alias(self, service: str, alias: str) -> str | None: ...

    def bundle(self, service: str, version_or_alias: str) -> Bundle: ...


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A version and what was loaded from it."""

    version: str
    track: str
    value: T


@dataclass
class _Refused:
    version: str
    reason: str
    wait_s: float
    until: float


class BundleHolder(Generic[T]):
    """Holds the newest good version of one service's bundle.

    load: bundle folder → what serves; any exception refuses the version
    warm_up: runs once on what was loaded, so that the first request finds it warm; an exception refuses it too
    passing: the alias comes and goes, and the bundle with it
    beside: another holder of the same service; a version that it has loaded already is shared, not loaded again
    """

    def __init__(
        self,
        store: BundleStore,
        service: str,
        alias: str,
        load: Callable[[Path], T],
        warm_up: Callable[[T], None] | None = None,
        *,
        poll_s: float = 2.0,
        metrics: ServiceMetrics | None = None,
        passing: bool = False,
        beside: BundleHolder[T] | None = None,
    ) -> None:
        self._store = store
        self._service = service
        self._alias = alias
        self._load = load
        self._warm_up = warm_up
        self._poll_s = poll_s
        self._metrics = metrics
        self._passing = passing
        self._beside = beside
        self._loaded: Loaded[T] | None = None
        self._refused: _Refused | None = None
        self._told: str | None = None
        self._changing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def service(self) -> str:
        """Whose bundle this is."""
        return self._service

    @property
    def alias(self) -> str:
        """The alias it follows."""
        return self._alias

    @property
    def refused(self) -> str | None:
        """Why the version that the alias names does not serve, where it was refused."""
        return None if self._refused is None else f"{self._refused.version}: {self._refused.reason}"

    @property
    def current(self) -> Loaded[T]:
        """What serves now. A batch takes it once and keeps it. Raises NotReady while there is none."""
        loaded = self._loaded
        if loaded is None:
            raise NotReady(f"no {self._alias} bundle of {self._service} is loaded yet", retry_after_s=self._poll_s)
        return loaded

    @property
    def version(self) -> str | None:
        """The version that serves now."""
        return None if self._loaded is None else self._loaded.version

    def versions(self) -> dict[str, str]:
        """Track → version, for /readyz."""
        return {} if self._loaded is None else {self._alias: self._loaded.version}

    def not_ready(self) -> str | None:
        """Why nothing serves, or None."""
        if self._loaded is not None:
            return None
        if self._refused is not None:
            return f"bundle {self._refused.version} was refused and there is no other"
        return f"the model store has no {self._alias} bundle of {self._service} yet"

    async def start(self) -> None:
        """Load what the alias names now, if anything, and follow it from here on. Nobody waits for a passing one."""
        if not self._passing:
            await self.refresh()
        self._task = asyncio.create_task(self._follow(), name=f"follow {self._service}/{self._alias}")

    async def aclose(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self, *, again: bool = False) -> bool:
        """Look at the alias now; True if another version serves afterwards, or none does any more.

        again: also try a version that was refused a moment ago
        """
        async with self._changing:
            try:
                wanted = await asyncio.to_thread(self._store.alias, self._service, self._alias)
            except Exception as error:  # whatever the store's file system raises: what serves goes on serving
                self._tell("cannot read the alias", error=f"{type(error).__name__}: {error}")
                return False
            if wanted is None and self._passing:
                self._refused = self._told = None
                return self._unload()
            if wanted is None:
                self._tell("no such alias yet")
                return False
            if wanted == self.version:
                self._refused = self._told = None
                return False
            refused = self._refused
            waits = refused is not None and refused.version == wanted and time.monotonic() < refused.until
            if waits and not again:
                return False  # hashing a bundle is not free: look again later, and at once when the alias moves
            gone = self._passing and self._unload()
            try:
                shared = self._shared(wanted)
                loaded = await asyncio.to_thread(self._bring_up, wanted) if shared is None else shared
            except BundleNotFound as error:
                if (
                    self._tell("the alias names a bundle that is not there", error=str(error))
                    and self._metrics is not None
                ):
                    self._metrics.bundle_refused.inc()  # half-written, or half-removed: nothing that may serve
                return gone
            except Exception as error:  # a defect in a bundle may raise anything: all of it refuses the bundle
                self._refuse(wanted, error)
                traceback.clear_frames(error.__traceback__)  # whoever keeps the error must not keep half a bundle
                return gone
            self._swap(loaded)
            return True

    def _swap(self, loaded: Loaded[T]) -> None:
        """From here on the new version serves. Nothing but work in flight holds the old one any more."""
        before, self._loaded = self.version, loaded
        self._refused = self._told = None
        if gc.get_freeze_count():  # a process that keeps its heap out of full collections keeps the new bundle out too
            gc.freeze()
        if self._metrics is not None:
            self._metrics.bundle(loaded.version, self._alias)
        log.info("bundle serves", bundle=self._service, track=self._alias, version=loaded.version, before=before)

    def _unload(self) -> bool:
        """Let go of what is loaded, if anything is."""
        gone, self._loaded = self._loaded, None
        if gone is None:
            return False
        if self._metrics is not None:
            self._metrics.no_bundle(self._alias)
        log.info("bundle let go", bundle=self._service, track=self._alias, version=gone.version)
        return True

    def _shared(self, version: str) -> Loaded[T] | None:
        """The version as the holder beside has it: verified and warm already."""
        there = None if self._beside is None else self._beside._loaded
        return None if there is None or there.version != version else Loaded(version, self._alias, there.value)

    def _bring_up(self, version: str) -> Loaded[T]:
        """Verify, load, warm up. In a thread."""
        bundle = self._store.bundle(self._service, version)
        value = self._load(bundle.path)
        if self._warm_up is not None:
            self._warm_up(value)
        return Loaded(bundle.version, self._alias, value)

    def _refuse(self, version: str, error: Exception) -> None:
        again = self._refused is not None and self._refused.version == version
        wait_s = min(2 * self._refused.wait_s, _MAX_BACKOFF_S) if again and self._refused else self._poll_s
        reason = f"{type(error).__name__}: {error}"
        self._refused = _Refused(version, reason, wait_s, time.monotonic() + wait_s)
        if self._metrics is not None:
            self._metrics.bundle_refused.inc()
        if not again:
            log.error(
                "canary refused; stable serves its users"
                if self._passing
                else "bundle refused; the version before goes on serving",
                bundle=self._service,
                track=self._alias,
                version=version,
                serving=self.version,
                error=reason,
                exc_info=error,
            )

    def _tell(self, what: str, **details: str) -> bool:
        """Log a state once, not at every poll; whether this was the time."""
        if self._told == what:
            return False
        self._told = what
        log.warning(what, bundle=self._service, track=self._alias, serving=self.version, **details)
        return True

    async def _follow(self) -> None:
        if self._passing:
            await self.refresh()
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()
