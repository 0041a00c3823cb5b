"""Both bundles of a service at once: what is stable, and the canary for as long as its alias is there.

Each has a queue of its own, so a batch is of one bundle, and while there is a canary each computes in a thread of its
own: in the event loop one that is slow would keep every request of the process waiting. Both, because a thread costs
its requests something, and what is to be compared must pay the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cascade.serving import internal
from cascade.serving.batching import Batched, MicroBatcher
from cascade.serving.errors import NotReady, Overloaded, Unavailable, UnknownItem
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder, BundleStore
from cascade.serving.settings import TrackSettings
from cascade.serving.track_metrics import BundleMetrics, Served
from cascade.store.model_store import CANARY, STABLE

T = TypeVar("T")
Request = TypeVar("Request")
Result = TypeVar("Result")

Compute = Callable[[Sequence[Request]], Sequence[Result | Exception]]


@dataclass(frozen=True)
class Track(Generic[T, Request, Result]):
    """One bundle and the queue in front of it."""

    holder: BundleHolder[T]
    batcher: MicroBatcher[Request, Result]

    async def start(self) -> None:
        """Load the bundle and follow its alias."""
        await self.holder.start()

    async def aclose(self) -> None:
        """Finish what waits, and stop following."""
        await self.batcher.aclose()
        await self.holder.aclose()


class Tracks(Generic[T, Request, Result]):
    """Answers requests from the track they ask for, and from stable where that is not loaded.

    canary: None for a service that holds one bundle alone
    in_thread: whether stable computes in a thread while there is no canary, and while there is one
    """

    def __init__(
        self,
        stable: Track[T, Request, Result],
        canary: Track[T, Request, Result] | None,
        counted: BundleMetrics,
        in_thread: tuple[bool, bool] = (False, True),
    ) -> None:
        self.stable = stable
        self.canary = canary
        self._counted = counted
        self._in_thread_alone, self._in_thread_beside = in_thread

    async def start(self) -> None:
        """Load what is stable; the canary loads meanwhile and is not waited for."""
        await self.stable.start()
        if self.canary is not None:
            await self.canary.start()

    async def aclose(self) -> None:
        """Finish what waits."""
        if self.canary is not None:
            await self.canary.aclose()
        await self.stable.aclose()

    async def answer(self, request: Request, track: str = STABLE) -> Batched[Result]:
        """The result for one request, which tells the bundle that it came from. Raises as MicroBatcher.submit does."""
        canary = self.canary
        if canary is None or canary.holder.version is None:
            self.stable.batcher.compute_in_thread(self._in_thread_alone)
            return await self.stable.batcher.submit(request)
        self.stable.batcher.compute_in_thread(self._in_thread_beside)
        if track == CANARY:
            try:
                return await self._counting(canary, request)
            except NotReady:  # its alias went while the request waited
                return await self.stable.batcher.submit(request)
        return await self._counting(self.stable, request)

    def not_ready(self) -> str | None:
        """Why nothing serves, or None. A canary decides nothing."""
        return self.stable.holder.not_ready()

    def versions(self) -> dict[str, str]:
        """Track → version, of what is loaded."""
        beside = {} if self.canary is None else self.canary.holder.versions()
        return self.stable.holder.versions() | beside

    async def refresh(self) -> dict[str, internal.Outcome]:
        """Look at the aliases now. What there is to tell of a canary stands within the outcome of what is stable."""
        told = dict(await internal.refresh_of(self.stable.holder)())
        if self.canary is not None:
            for name, outcome in (await internal.refresh_of(self.canary.holder)()).items():
                if any(outcome.values()):
                    told[name] = {**told[name], CANARY: outcome}
        return told

    async def _counting(self, track: Track[T, Request, Result], request: Request) -> Batched[Result]:
        began = time.perf_counter()
        version = track.holder.version
        outcome: Served | None = None
        try:
            batched = await track.batcher.submit(request)
            outcome = "ok"
            return batched
        except (Overloaded, Unavailable):
            outcome = "refused"
            raise
        except UnknownItem:  # an answer: there is no such item
            outcome = "ok"
            raise
        except Exception:
            outcome = "error"
            raise
        finally:
            if outcome is not None and version is not None:  # None: the caller gave up
                self._counted.answered(track.holder.alias, version, outcome, time.perf_counter() - began)


def make_tracks(
    service: str,
    settings: TrackSettings,
    store: BundleStore,
    load: Callable[[Path], T],
    warm_up: Callable[[T], None],
    compute_of: Callable[[BundleHolder[T]], Compute[Request, Result]],
    metrics: ServiceMetrics,
    counted: BundleMetrics,
) -> Tracks[T, Request, Result]:
    """The tracks of a service as its settings say: of one whose alias is not `stable`, that one alone.

    compute_of: makes the computation of batches, from whatever the holder has when a batch starts
    """

    def holder(alias: str, beside: BundleHolder[T] | None = None, *, passing: bool = False) -> BundleHolder[T]:
        return BundleHolder(
            store, service, alias, load, warm_up,
            poll_s=settings.alias_poll_s, metrics=metrics, passing=passing, beside=beside,
        )  # fmt: skip

    def track(held: BundleHolder[T], name: str, *, in_thread: bool) -> Track[T, Request, Result]:
        batcher: MicroBatcher[Request, Result] = MicroBatcher(
            compute_of(held),
            max_size=settings.batch_max_size,
            max_wait_s=settings.batch_max_wait_ms / 1000,
            queue_bound=settings.queue_bound,
            in_thread=in_thread,
            metrics=metrics,
            name=name,
        )
        return Track(held, batcher)

    alone = settings.batch_in_thread
    beside = settings.batch_in_thread or settings.canary_in_thread
    if settings.alias != STABLE:
        return Tracks(track(holder(settings.alias), service, in_thread=alone), None, counted, (alone, alone))
    canary = holder(CANARY, passing=True)
    return Tracks(
        track(holder(STABLE, canary), service, in_thread=alone),
        track(canary, f"{service} canary", in_thread=beside),
        counted,
        (alone, beside),
    )
