"""Which replica takes a call: the least loaded of those in rotation. Knows neither sockets nor clocks.

            fails                  its time is over                answers
in rotation ──────> ejected ────────────────────────> one probe ──────────> in rotation
                       ^                                  │ fails: ejected for twice as long
                       └──────────────────────────────────┘
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum

from cascade.serving.calls import Caller

SCANNED = 8
"""Up to so many replicas all are looked at; of more, two drawn at random, which is nearly as even (Mitzenmacher, "The
Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001) and costs the same for any number."""
_GROWTH_AT_MOST = 16
_GOOD_CONDUCT = 60
"""An ejection is forgotten after this many first ejection times in rotation."""


class Outcome(Enum):
    """What a call told of its replica."""

    GOOD = "good"
    UNREACHABLE = "unreachable"
    LATE = "late"
    ERROR = "error"
    UNTOLD = "untold"


EJECTION_REASONS = (Outcome.UNREACHABLE.value, Outcome.LATE.value, Outcome.ERROR.value)


@dataclass(frozen=True, slots=True)
class Ejection:
    """When a replica gets no more calls, and for how long.

    One that cannot be reached is ejected at once: whatever the others do, a call to it is a call in vain. One that is
    late or answers 5xx is ejected after `after` such calls in a row, if most others do better (what all suffer from
    is no replica's fault) and no more than `share` of the replicas are out.

    seconds: of the first ejection; each further one takes twice as long, up to 16 times
    """

    seconds: float = 1.0
    after: int = 5
    share: float = 0.5

    def time_s(self, times: int) -> float:
        """Of the `times`-th ejection, in seconds."""
        return self.seconds * min(2.0 ** min(times - 1, 10), _GROWTH_AT_MOST)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica listens.

    url: http://host:port, as the service is called
    address: the IP address of this replica; none: the URL's host is one
    """

    url: str
    address: str | None = None

    def __str__(self) -> str:
        return self.url if self.address is None else f"{self.url} at {self.address}"


@dataclass(slots=True, eq=False)
class Replica:
    """One process that answers.

    until: while it is out of rotation, the time of its next probe; 0 in rotation
    in_a_row: calls that were late or answered 5xx since one that was good
    """

    place: Place
    caller: Caller
    in_flight: int = 0
    in_a_row: int = 0
    until: float = 0.0
    ejections: int = 0
    returned: float = field(default=float("-inf"))
    probed: bool = False


class Balance:
    """The replicas of one service, and the load and conduct of each.

    rng: breaks ties, so that several gateways do not all begin with the same replica
    """

    def __init__(self, ejection: Ejection | None = None, rng: random.Random | None = None) -> None:
        self._ejection = ejection or Ejection()
        self._random = (rng or random.Random()).random  # noqa: S311  (no secret)
        self._open: list[Replica] = []
        self._ejected: list[Replica] = []

    @property
    def known(self) -> int:
        """Replicas that may get calls, the ejected included."""
        return len(self._open) + len(self._ejected)

    @property
    def ejected(self) -> int:
        """Replicas that are out of rotation."""
        return len(self._ejected)

    def update(self, places: Collection[Place], connect: Callable[[Place], Caller]) -> list[Replica]:
        """Know exactly the replicas at `places`; → those that went, which get no more calls.

        A replica that stays keeps its load and conduct.
        """
        named = dict.fromkeys(places)
        known = {replica.place: replica for replica in (*self._open, *self._ejected)}
        new = [Replica(place, connect(place)) for place in named if place not in known]
        gone = [replica for place, replica in known.items() if place not in named]
        self._open = [replica for replica in self._open if replica.place in named] + new
        self._ejected = [replica for replica in self._ejected if replica.place in named]
        return gone

    def take(self, now: float, *, probe: bool = False, besides: Replica | None = None) -> Replica | None:
        """Give a call to a replica; it must be followed by `done`. None: there is no replica, or none but `besides`.

        now: seconds of any clock that does not go back
        probe: the call may go to a replica whose ejection is over, one call at a time. Calls that can be repeated
            elsewhere may; nobody has to lose anything to find out
        besides: the replica that has failed this call already
        """
        replica = self._due(now) if probe and self._ejected else None
        if replica is None:
            replica = self._least(self._open, besides)
            if replica is None:  # all are out: better a try than none
                replica = self._least(self._ejected, besides)
                if replica is None:
                    return None
        replica.in_flight += 1
        return replica

    def done(self, replica: Replica, outcome: Outcome, now: float, *, was_out: bool = False) -> bool:
        """A call is over; → whether the replica has been ejected for it, or has returned.

        was_out: the replica was out of rotation when it took the call (`until` was not 0)
        """
        replica.in_flight -= 1
        if outcome is Outcome.GOOD:
            replica.in_a_row = 0
            return was_out and self._return(replica, now)
        if was_out:
            replica.probed = False
        if outcome is Outcome.UNTOLD:
            return False
        if outcome is not Outcome.UNREACHABLE:
            replica.in_a_row += 1
        if replica.until:
            # Calls from before the ejection fail for the same reason; a probe that fails is a new one.
            if was_out and now >= replica.until:
                self._put_out(replica, now)
            return False
        if replica not in self._open or not self._deserved(replica, outcome):
            return False
        self._open.remove(replica)
        self._ejected.append(replica)
        if now - replica.returned > _GOOD_CONDUCT * self._ejection.seconds:
            replica.ejections = 0
        self._put_out(replica, now)
        return True

    def _least(self, replicas: list[Replica], besides: Replica | None) -> Replica | None:
        if besides is not None:
            replicas = [replica for replica in replicas if replica is not besides]
        count = len(replicas)
        if count <= 1:
            return replicas[0] if replicas else None
        if count > SCANNED:
            first = int(self._random() * count)
            second = (first + 1 + int(self._random() * (count - 1))) % count
            return min(replicas[first], replicas[second], key=_load)
        chosen, fewest, tied = replicas[0], replicas[0].in_flight, 1
        for replica in replicas[1:]:
            load = replica.in_flight
            if load < fewest:
                chosen, fewest, tied = replica, load, 1
            elif load == fewest:
                tied += 1
                if self._random() * tied < 1:  # the n-th of equals takes the place of those before with chance 1/n
                    chosen = replica
        return chosen

    def _due(self, now: float) -> Replica | None:
        for replica in self._ejected:
            if now >= replica.until and not replica.probed:
                replica.probed = True
                return replica
        return None

    def _deserved(self, replica: Replica, outcome: Outcome) -> bool:
        if outcome is Outcome.UNREACHABLE:
            return True
        if replica.in_a_row < self._ejection.after or self.ejected + 1 > self._ejection.share * self.known:
            return False
        others = [other for other in self._open if other is not replica]
        return 2 * sum(other.in_a_row == 0 for other in others) > len(others)

    def _put_out(self, replica: Replica, now: float) -> None:
        replica.ejections += 1
        replica.until = now + self._ejection.time_s(replica.ejections)

    def _return(self, replica: Replica, now: float) -> bool:
        replica.probed = False
        if replica not in self._ejected:  # returned by another call, or gone
            return False
        self._ejected.remove(replica)
        self._open.append(replica)
        replica.until, replica.returned = 0.0, now
        return True


def _load(replica: Replica) -> int:
    return replica.in_flight
