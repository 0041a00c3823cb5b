"""The two streams: what an entry of each is, when it may be written, and what is done with it besides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Protocol, TypeVar

import pyarrow as pa
from redis import Redis

from cascade.data.contract import IMPRESSIONS, INTERACTIONS
from cascade.online import keys
from cascade.online.activity import Activity, FeastActivity
from cascade.online.interactions import Event
from cascade.online.streams import Entry
from cascade.serving.logging import get_logger
from services.features.memory import give_back
from services.features.rows import (
    Catalog,
    Waiting,
    day_of,
    event_of,
    event_table,
    impression_of,
    impression_table,
    waiting_of,
)
from services.features.telemetry import Telemetry

T = TypeVar("T")

Forgotten = Callable[[Iterable[str]], set[str]]
"""→ those of some users who were forgotten. Raises what Redis raises."""

log = get_logger(__name__)


def nobody(_users: Iterable[str]) -> set[str]:
    """Where nobody was ever forgotten."""
    return set()


class Kind(Protocol[T]):
    """What sets one stream apart.

    stream: its key; table: the dataset's table that its rows belong to
    hold_s: how long after its arrival in the stream an entry waits before it is written
    """

    stream: str
    table: str
    hold_s: float

    def parse(self, entry: Entry, catalog: Catalog) -> T:
        """Raises Unusable."""

    def use(self, entries: Sequence[tuple[Entry, T]], catalog: Catalog) -> None:
        """What is done at once, before the entries count as handled. May be done twice."""

    def user(self, value: T) -> str:
        """Whose it is."""

    def day(self, value: T) -> date:
        """The partition."""

    def rows(self, entries: Sequence[tuple[Entry, T]]) -> pa.Table:
        """The rows of one file."""


class Interactions:
    """Events: features at once, a row each."""

    stream = keys.EVENTS
    table = INTERACTIONS
    hold_s = 0.0

    def __init__(self, redis: Redis, activity: FeastActivity, offline: OfflinePushes, telemetry: Telemetry) -> None:
        self._redis = redis
        self._activity = activity
        self._offline = offline
        self._telemetry = telemetry

    def parse(self, entry: Entry, catalog: Catalog) -> Event:
        """See Kind."""
        return event_of(entry, catalog)

    def use(self, entries: Sequence[tuple[Entry, Event]], catalog: Catalog) -> None:
        """Refresh the features of every user met."""
        users = dict.fromkeys(event.user_id for _, event in entries)
        pushed = self._activity.refresh(self._redis, users, catalog.get)
        now = time.time()
        self._offline.add(pushed)
        self._telemetry.pushed.inc(len(pushed))
        for entry, _ in entries:
            self._telemetry.lag.observe(max(now - entry.at_ms / 1000, 0.0))

    def user(self, value: Event) -> str:
        """See Kind."""
        return value.user_id

    def day(self, value: Event) -> date:
        """See Kind."""
        return day_of(value.timestamp)

    def rows(self, entries: Sequence[tuple[Entry, Event]]) -> pa.Table:
        """See Kind."""
        return event_table([(entry.id, event) for entry, event in entries])


class Impressions:
    """Lists: held until their clicks are in, then a row an item.

    A click is noted for its list by the same atomic step that puts it into the stream, so at the moment of writing
    every click answered until then is known, however far behind the events are read.
    """

    stream = keys.IMPRESSIONS
    table = IMPRESSIONS

    def __init__(self, redis: Redis, attribution_s: float) -> None:
        self._redis = redis
        self.hold_s = attribution_s

    def parse(self, entry: Entry, catalog: Catalog) -> Waiting:
        """See Kind."""
        return waiting_of(entry, catalog)

    def use(self, entries: Sequence[tuple[Entry, Waiting]], catalog: Catalog) -> None:
        """Nothing is done at once."""

    def user(self, value: Waiting) -> str:
        """See Kind."""
        return value.user_id

    def day(self, value: Waiting) -> date:
        """See Kind."""
        return day_of(value.timestamp)

    def rows(self, entries: Sequence[tuple[Entry, Waiting]]) -> pa.Table:
        """With the clicks known by now."""
        requests = list(dict.fromkeys(shown.request_id for _, shown in entries))
        with self._redis.pipeline(transaction=False) as step:
            for request_id in requests:
                step.smembers(keys.clicked(request_id))
            found = step.execute()
        clicked = {
            request_id: {item.decode() for item in items} for request_id, items in zip(requests, found, strict=True)
        }
        return impression_table([(entry.id, impression_of(entry)) for entry, _ in entries], clicked)


class OfflinePushes:
    """What goes into Feast's offline store, gathered: each user's newest value, pushed now and then by one thread.

    A killed worker's last few seconds are missing there until the users act again or the daily build writes the file
    anew from the interactions, which lose nothing.

    forgotten: → those of some users who were forgotten
    """

    def __init__(
        self,
        activity: FeastActivity,
        telemetry: Telemetry,
        every_s: float,
        most_rows: int,
        forgotten: Forgotten = nobody,
    ) -> None:
        self._forgotten = forgotten
        self._activity = activity
        self._telemetry = telemetry
        self._every_s = every_s
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._gathered: dict[str, Activity] = {}

    def add(self, activities: dict[str, Activity]) -> None:
        """Gather. For any thread."""
        with self._lock:
            self._gathered |= activities

    def run(self, stop: threading.Event) -> None:
        """Push until told to stop, and once more then. A push takes at most a tenth of the time."""
        pause_s = self._every_s
        while not stop.wait(pause_s):
            pause_s = max(self._every_s, 9 * self._push())
        self._push()

    def _push(self) -> float:
        with self._lock:
            gathered, self._gathered = self._gathered, {}
        if not gathered:
            return 0.0
        try:
            took_s = self._activity.push_offline(gathered, self._most_rows, self._forgotten)
        except Exception as error:  # Feast and DuckDB raise anything; the online store and the rows do not depend on it
            self._telemetry.offline_failures.inc()
            log.warning("offline push failed; tried again", error=f"{type(error).__name__}: {error}")
            with self._lock:
                self._gathered = gathered | self._gathered
            return 0.0
        self._telemetry.offline_seconds.observe(took_s)
        give_back()
        return took_s
