"""A queue with many servers, simulated request by request for a moment of each step.

A day of thousands of requests a second is too many to follow one by one. So of each step the first few hundred arrivals
are: at the real rate, with the real number of servers, from the state in which the step before ended (Kiefer and
Wolfowitz 1955: the moments at which the servers will be free are all the state there is). The rest of the step moves
that state by what it does on average: with more work than the servers get done, every server's backlog grows by
(ρ − 1) a second until the bound of the queue, and what is beyond is refused; a backlog that is larger than chance makes
it shrinks by (1 − ρ).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CHANCE = 10.0
"""Waits beyond so many means of a busy queue, 1 / (c μ − λ), are a backlog: chance makes them once in e¹⁰."""


@dataclass(frozen=True)
class Moment:
    """What a step saw.

    waits: seconds [N] of the arrivals followed, NaN for one that was refused; services: seconds [N]
    refused: share of all arrivals of the step
    """

    waits: Floats
    services: Floats
    refused: float


class SampledQueue:
    """First come, first served, by whichever server is free first. Poisson arrivals, exponential service.

    service: mean seconds; longest: seconds of wait beyond which an arrival is refused
    """

    def __init__(self, service: float, servers: int, longest: float, rng: np.random.Generator) -> None:
        self.service = service
        self.longest = longest
        self._free = [0.0] * servers
        self._rng = rng

    @property
    def servers(self) -> int:
        """How many there are."""
        return len(self._free)

    @property
    def backlog(self) -> float:
        """Seconds that an arrival would wait now."""
        return self._free[0]

    def resize(self, servers: int) -> None:
        """More servers are free at once; those taken away were the least busy, and finish what they have elsewhere."""
        if servers > len(self._free):
            self._free = [0.0] * (servers - len(self._free)) + self._free
        elif servers < len(self._free):
            self._free = sorted(self._free)[len(self._free) - servers :]
        heapq.heapify(self._free)

    def step(self, rate: float, seconds: float, follow: int) -> Moment:
        """Let `seconds` go by at `rate` arrivals a second, the first `follow` of them one by one."""
        if not self._free:
            nan = np.full(follow, np.nan)
            return Moment(nan, np.zeros(follow), 1.0)
        if rate <= 0:
            self._pass(seconds)
            return Moment(np.zeros(0), np.zeros(0), 0.0)
        arrivals = np.cumsum(self._rng.exponential(1 / rate, follow))
        services = self._rng.exponential(self.service, follow)
        free, waits, refused = self._free, [], 0
        for at, service in zip(arrivals.tolist(), services.tolist(), strict=True):
            wait = max(0.0, free[0] - at)
            if wait > self.longest:
                refused += 1
                waits.append(np.nan)
            else:
                heapq.heapreplace(free, at + wait + service)
                waits.append(wait)
        followed = float(arrivals[-1])
        self._free = [max(0.0, one - followed) for one in free]
        left = seconds - followed
        beyond = self._drift(rate, left) if left > 0 else 0.0
        all_arrivals = rate * max(seconds, followed)
        return Moment(np.array(waits), services, min(1.0, (refused + beyond) / all_arrivals))

    def _pass(self, seconds: float) -> None:
        self._free = [max(0.0, one - seconds) for one in self._free]

    def _drift(self, rate: float, seconds: float) -> float:
        """The rest of a step on average. Returns how many arrivals are refused in it."""
        busy = rate * self.service / self.servers
        before = self.backlog
        if busy >= 1:
            after = before + (busy - 1) * seconds
            kept = max(before, min(after, self.longest))
            self._free = [one + kept - before for one in self._free]
            return (after - kept) * self.servers / self.service
        usual = CHANCE * self.service / (self.servers * (1 - busy))
        if before > usual:
            fallen = before - max(usual, before - (1 - busy) * seconds)
            self._free = [max(0.0, one - fallen) for one in self._free]
        return 0.0
