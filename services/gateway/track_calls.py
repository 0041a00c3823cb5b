"""Ports that ask a service for a track, and stable where the canary fails: no visitor pays for a canary.

A canary has a part of its stage's time alone (of what the request has left for the stage, where that is less), so that
enough is left for stable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from cascade import deadline
from cascade.api.gateway import Stage
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.serving.logging import get_logger
from services.gateway.ports import Ranker, Retriever, StageLate
from services.gateway.track_metrics import FallbackReason, Outcome, TrackMetrics
from services.gateway.tracks import Tracks

log = get_logger(__name__)


class Asking(Protocol):
    """A request that names its track."""

    @property
    def track(self) -> str: ...


class Told(Protocol):
    """An answer that names the bundle it came from."""

    @property
    def version(self) -> str: ...

    @property
    def track(self) -> str: ...


Question = TypeVar("Question", RetrieveRequest, RankRequest)
Reply = TypeVar("Reply", bound=Told)


class TrackedCalls:
    """Calls to one service, counted by track while it has a canary.

    stage_s: the stage's time, in seconds; canary_share: the part of it that a canary may take
    """

    def __init__(
        self, service: Stage, tracks: Tracks, metrics: TrackMetrics, stage_s: float, canary_share: float
    ) -> None:
        self._service = service
        self._running = tracks.running
        self._metrics = metrics
        self._stage_s = stage_s
        self._canary_share = canary_share
        self._told: tuple[str | None, str] | None = None

    async def ask(self, request: Question, call: Callable[[Question], Awaitable[Reply]]) -> Reply:
        """The service's answer; raises StageError where stable gives none."""
        if request.track == "canary":
            return await self._canary(request, call)
        if self._service in self._running:
            return await self._counted("stable", None, request, call)
        return await call(request)

    async def _canary(self, request: Question, call: Callable[[Question], Awaitable[Reply]]) -> Reply:
        draw = self._running.get(self._service)
        version = None if draw is None else draw.version  # none: a request asks for it by header
        reason: FallbackReason
        canary_s = self._canary_share * deadline.at_most(self._stage_s)
        try:
            with deadline.within(canary_s):  # told on to the service: it works for nobody after that
                async with asyncio.timeout(canary_s):
                    answer = await self._counted("canary", version, request, call)
        except TimeoutError as error:
            reason, why = "late", f"no answer within {canary_s:g} s ({error})"
        except StageLate as error:
            reason, why = "late", str(error)
        except Exception as error:  # whatever it is, stable may do better
            reason, why = "error", f"{type(error).__name__}: {error}"
        else:
            if answer.track != "canary":
                self._metrics.fallback(self._service, version, "not_loaded")
            return answer
        self._metrics.fallback(self._service, version, reason)
        if self._told != (version, reason):  # the metrics tell of each, the log of the first
            self._told = version, reason
            log.warning(
                "canary failed, stable is asked", stage=self._service, version=version, reason=reason, error=why
            )
        stable = request.model_copy(update={"track": "stable"})
        return await self._counted("stable", None, stable, call)

    async def _counted(
        self, track: str, version: str | None, request: Question, call: Callable[[Question], Awaitable[Reply]]
    ) -> Reply:
        """The answer, counted for the track that gave it; a failure, for the one asked. version: its, where known."""
        outcome: Outcome = "error"
        began = time.perf_counter()
        try:
            answer = await call(request)
            outcome, track, version = "ok", answer.track, answer.version
            return answer
        except (StageLate, asyncio.CancelledError):  # cancelled: the time above this call is over
            outcome = "late"
            raise
        finally:
            self._metrics.call(self._service, track, version, outcome, time.perf_counter() - began)


class TrackedRetriever:
    """The Retriever port, by track."""

    def __init__(self, retriever: Retriever, calls: TrackedCalls) -> None:
        self._retriever = retriever
        self._calls = calls

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """See Retriever."""
        return await self._calls.ask(request, self._retriever.retrieve)

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        """See Retriever. Similar items are stable's."""
        return await self._retriever.similar(request)


class TrackedRanker:
    """The Ranker port, by track."""

    def __init__(self, ranker: Ranker, calls: TrackedCalls) -> None:
        self._ranker = ranker
        self._calls = calls

    async def rank(self, request: RankRequest) -> RankResponse:
        """See Ranker."""
        return await self._calls.ask(request, self._ranker.rank)
