"""Calls to a service of several replicas: each to the least loaded, and past those that fail.

Connections are kept, so a load balancer that chooses once a connection would leave a new replica idle for as long as
the old ones live. Here the choice is made once a call, and the list of replicas is asked for again and again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Protocol

from cascade import tracing
from cascade.serving.balance import Balance, Ejection, Outcome, Place, Replica
from cascade.serving.calls import Answer, Caller, CallFailed, CallLate, NotConnected
from cascade.serving.logging import get_logger
from cascade.serving.resolving import Resolve
from cascade.serving.tcp_calls import MAX_CONNECTIONS, TcpCaller

RESOLVE_S = 1.0
_FIRST_S = 1.0
"""How long `start` waits for the first list; a service whose name is not there yet must not keep the gateway down."""

log = get_logger(__name__)


class ReplicaObserver(Protocol):
    """Is told what happens to the replicas of one service."""

    def replicas(self, known: int, ejected: int) -> None:
        """So many are known now, and so many of them get no calls."""

    def ejection(self, reason: str) -> None:
        """One was taken out of rotation: `unreachable`, `late` or `error`."""

    def retry(self) -> None:
        """A call that failed is sent to another replica."""


class BalancedCaller:
    """The way to all replicas of one service; `start` it first.

    A call that broke, or found no connection, goes once more to another replica while its time lasts: always if
    nothing was sent, otherwise if it is repeatable. Replicas that the resolver names no longer get no new calls and
    are let go when their last call ends. When the resolver fails, the last list stays.

    resolve: → where the replicas are, asked every `resolve_s` seconds
    connect: → the caller of one replica
    """

    def __init__(
        self,
        resolve: Resolve,
        observer: ReplicaObserver,
        *,
        resolve_s: float = RESOLVE_S,
        ejection: Ejection | None = None,
        connect: Callable[[Place], Caller] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._resolve = resolve
        self._observer = observer
        self._resolve_s = resolve_s
        self._balance = Balance(ejection, rng)
        self._connect = connect or over_tcp
        self._leaving: list[Replica] = []
        self._task: asyncio.Task[None] | None = None
        self._resolved = asyncio.Event()
        self._failing = False

    async def start(self) -> None:
        """Ask for the replicas, and from then on again and again; waits for the first answer for a second at most."""
        self._task = asyncio.create_task(self._follow())
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                await self._resolved.wait()

    async def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        repeatable: bool = False,
    ) -> Answer:
        """See Caller."""
        clock = asyncio.get_running_loop().time
        began = clock()
        replica = self._balance.take(began, probe=repeatable)
        if replica is None:
            raise NotConnected("no replica is known: the name of the service does not resolve")
        left_s, retried = timeout_s, False
        while True:
            was_out = replica.until != 0.0
            try:
                answer = await replica.caller.call(method, path, body, headers, left_s, repeatable)
            except BaseException as error:
                now = clock()
                self._done(replica, _outcome(error), now, was_out)
                left_s = began + timeout_s - now
                if retried or left_s <= 0 or not _may_go_on(error, repeatable):
                    raise
                other = self._balance.take(now, besides=replica)
                if other is None:
                    raise
                replica, retried = other, True
                self._observer.retry()
                tracing.event("sent to another replica", {"error.type": type(error).__name__})
            else:
                if was_out or answer.status >= 500:
                    self._done(replica, Outcome.GOOD if answer.status < 500 else Outcome.ERROR, clock(), was_out)
                else:
                    self._balance.done(replica, Outcome.GOOD, began)
                return answer

    async def aclose(self) -> None:
        """Ask no more, and give up the connections."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._leaving += self._balance.update((), self._connect)
        for replica in self._leaving:
            await replica.caller.aclose()
        self._leaving.clear()

    def _done(self, replica: Replica, outcome: Outcome, now: float, was_out: bool) -> None:
        if self._balance.done(replica, outcome, now, was_out=was_out):
            self._changed(replica, outcome)

    def _changed(self, replica: Replica, outcome: Outcome) -> None:
        if outcome is Outcome.GOOD:
            log.info("replica returned", replica=str(replica.place))
        else:
            log.warning("replica ejected", replica=str(replica.place), reason=outcome.value, times=replica.ejections)
            self._observer.ejection(outcome.value)
        self._tell()

    def _tell(self) -> None:
        self._observer.replicas(self._balance.known, self._balance.ejected)

    async def _follow(self) -> None:
        while True:
            await self._refresh()
            self._resolved.set()
            await asyncio.sleep(self._resolve_s)

    async def _refresh(self) -> None:
        try:
            places = await self._resolve()
            if not places:
                raise LookupError("the list is empty")
            self._adopt(places)
            self._failing = False
        except Exception as error:  # whatever it is, the replicas known so far serve on
            if not self._failing:
                log.warning("replicas cannot be looked up", error=f"{type(error).__name__}: {error}")
            self._failing = True
        for replica in [replica for replica in self._leaving if replica.in_flight == 0]:
            self._leaving.remove(replica)
            await replica.caller.aclose()

    def _adopt(self, places: Collection[Place]) -> None:
        before = self._balance.known
        gone = self._balance.update(places, self._connect)
        self._leaving += gone
        if gone or self._balance.known != before:
            log.info("replicas", known=self._balance.known, gone=[str(replica.place) for replica in gone])
            self._tell()


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, CallFailed):
        return Outcome.UNREACHABLE
    return Outcome.LATE if isinstance(error, CallLate) else Outcome.UNTOLD


def _may_go_on(error: BaseException, repeatable: bool) -> bool:
    return isinstance(error, CallFailed if repeatable else NotConnected)


def over_tcp(place: Place, max_connections: int = MAX_CONNECTIONS) -> TcpCaller:
    """The caller of one replica over connections of its own, at most so many at once."""
    return TcpCaller(place.url, address=place.address, max_connections=max_connections)
