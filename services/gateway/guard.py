"""Asking a stage: within its time and the request's, and not at all while its circuit breaker is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from cascade import deadline
from cascade.api.gateway import Stage
from cascade.online.errors import OnlineStoreDown
from cascade.serving.breaker import Breaker, Breaking, Verdict
from services.gateway.ports import StageDown, StageLate, StageOpen

Answer = TypeVar("Answer")

_GRACE_S = 0.02
"""Ports keep the time themselves, and know what was late; this much later one that does not is given up."""
_FAIR_SHARE = 0.5
"""A stage that was given less of its time than this, because others had spent it, is not to blame for being late."""


class BreakerObserver(Protocol):
    """Is told when a breaker opens and closes."""

    def breaker(self, stage: Stage, is_open: bool) -> None:
        """The stage's breaker has opened, or closed again."""


class Guard:
    """One for all requests of a gateway: the breakers remember."""

    def __init__(self, observer: BreakerObserver, breaking: Breaking | None = None) -> None:
        self._observer = observer
        stages: tuple[Stage, ...] = ("features", "retrieval", "filter", "ranker")
        self._breakers: Mapping[Stage, Breaker] = {stage: Breaker(breaking) for stage in stages}

    async def ask(self, stage: Stage, seconds: float, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """The stage's answer within so many seconds, or what the request has left.

        Raises StageOpen without asking, StageLate, and what the call raises.
        """
        breaker = self._breakers[stage]
        leave = breaker.take(time.monotonic())
        if leave is None:
            raise StageOpen(stage, "not asked: it failed again and again a moment ago")
        given = deadline.at_most(seconds)
        verdict = Verdict.UNTOLD
        try:
            with deadline.within(given):
                async with asyncio.timeout(given + _GRACE_S):
                    answer = await call()
            verdict = Verdict.GOOD
            return answer
        except (TimeoutError, StageLate) as error:
            verdict = Verdict.BAD if given >= _FAIR_SHARE * seconds else Verdict.UNTOLD
            if isinstance(error, StageLate):
                raise
            raise StageLate(stage, f"no answer within {given:g} s") from error
        except (StageDown, OnlineStoreDown):
            verdict = Verdict.BAD
            raise
        except Exception:  # it answered, if only that it is busy or that it refuses
            verdict = Verdict.GOOD
            raise
        finally:
            if breaker.done(leave, verdict, time.monotonic()):
                self._observer.breaker(stage, breaker.is_open)
