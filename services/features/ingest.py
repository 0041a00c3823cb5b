"""From one stream into the dataset, exactly once; `cascade.online.streams` tells how.

One thread reads, uses and gathers entries; another writes the files, so that features never wait for a file.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from redis.exceptions import RedisError, ResponseError

from cascade.online.errors import FeatureStoreNotReady
from cascade.online.streams import Backlog, ConsumerGroup, Entry
from cascade.privacy.online import who
from cascade.serving.errors import NotReady
from cascade.serving.logging import get_logger
from services.features.errors import Abandoned, Unusable
from services.features.files import LiveFiles, is_live_name
from services.features.kinds import Forgotten, Kind, nobody
from services.features.rows import Catalog
from services.features.telemetry import Telemetry

T = TypeVar("T")
Result = TypeVar("Result")

_BLOCK_MS = 100
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_IDLE_READER_S = 3600.0
_OLD_FILE_S = 3600.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Policy:
    """The numbers of FeaturesSettings, in seconds and entries; see there."""

    cycle_s: float = 0.05
    read_count: int = 1000
    flush_s: float = 2.0
    flush_entries: int = 5000
    most_held: int = 100_000
    claim_after_s: float = 30.0
    tries: int = 5
    retry_s: float = 1.0
    dead_letters: int = 100_000

    @property
    def housekeeping_s(self) -> float:
        """Time between looks at what others left behind."""
        return min(self.claim_after_s / 4, 5.0)


class _Due(NamedTuple, Generic[T]):
    """Something that waits for a moment of the monotonic clock. Numbers differ, so that `what` is never compared.

    A tuple, because a heap compares each of them a dozen times.
    """

    at: float
    number: int
    what: T


class Ingest(Generic[T]):
    """One stream of one worker. `run` in a thread of its own.

    catalog: the items known now; raises NotReady while there is none
    forgotten: → those of some users who were forgotten: their entries become no rows
    """

    def __init__(
        self,
        group: ConsumerGroup,
        kind: Kind[T],
        files: LiveFiles,
        catalog: Callable[[], Catalog],
        policy: Policy,
        telemetry: Telemetry,
        forgotten: Forgotten = nobody,
    ) -> None:
        self._forgotten = forgotten
        self._group = group
        self._kind = kind
        self._files = files
        self._catalog = catalog
        self._policy = policy
        self._telemetry = telemetry
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"write-{kind.table}")
        self._writing: Future[None] | None = None
        self._batch_ids: list[str] = []
        self._abandon = threading.Event()
        self._numbers = itertools.count()
        # Where an entry may be; `held` has the ids of all of them.
        self._held: set[str] = set()
        self._fresh: list[tuple[Entry, T]] = []
        self._waiting: list[_Due[tuple[Entry, T]]] = []
        self._ready: list[tuple[Entry, T]] = []
        self._failing: list[_Due[tuple[Entry, str]]] = []
        self._ready_since = 0.0
        self._next_housekeeping = self._next_sweep = 0.0
        self._server_ahead_ms = 0.0  # of the monotonic clock
        self._trouble: str | None = "it has not read the stream yet"

    @property
    def trouble(self) -> str | None:
        """Why it does not work right now; None when its last cycle went well."""
        return self._trouble

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; then write what is ready. Errors end a cycle and never the loop."""
        pause_s = _FIRST_PAUSE_S
        while not stop.is_set():
            started = time.monotonic()
            try:
                worked = self.cycle()
            except Exception as error:  # whatever Redis, Feast or the file system raise: all of it is tried again
                self._report(error)
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._trouble, pause_s = None, _FIRST_PAUSE_S
                if worked:
                    stop.wait(max(0.0, self._policy.cycle_s - (time.monotonic() - started)))

    def close(self, limit_s: float) -> None:
        """Write what is ready, for at most `limit_s`; the rest stays pending, and other workers take it over."""
        timer = threading.Timer(limit_s, self._abandon.set)
        timer.start()
        try:
            self._hand_over(everything=True)
            while self._writing is not None:
                self._await_writer()
                self._hand_over(everything=True)
            self._group.leave()
        except (RedisError, OSError, Abandoned) as error:
            log.warning("ended with entries pending", stream=self._kind.stream, error=str(error))
        finally:
            timer.cancel()
            self._writer.shutdown(wait=True)

    def cycle(self) -> bool:
        """Read, use, hand over to the writer; True if there was something new."""
        catalog = self._catalog()
        now = time.monotonic()
        if now >= self._next_housekeeping:
            self._housekeeping(catalog)
            self._next_housekeeping = now + self._policy.housekeeping_s
        self._retry(catalog)
        room = self._room()
        if room > 0:
            block_ms = 0 if self._fresh else _BLOCK_MS
            self._accept(self._group.read(min(self._policy.read_count, room), block_ms), catalog)
        worked = bool(self._fresh)
        self._use(catalog)
        self._collect()
        self._hand_over()
        if room <= 0 and not worked:
            time.sleep(_BLOCK_MS / 1000)
        return worked

    def _room(self) -> int:
        """How many entries more may be read: no more than the writer gets through soon, so that a backlog waits in the
        stream, where every worker can take its part, and not in the memory of one."""
        writing = len(self._batch_ids) if self._writing is not None else 0
        unwritten = 2 * self._policy.flush_entries - len(self._ready) - len(self._fresh) - writing
        return min(unwritten, self._policy.most_held - len(self._held))

    def _report(self, error: Exception) -> None:
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._trouble:
            expected = isinstance(error, NotReady | FeatureStoreNotReady | RedisError | OSError)
            tell = log.warning if expected else log.exception
            tell("cannot work now; tried again", stream=self._kind.stream, error=trouble)
        self._trouble = trouble
        self._telemetry.troubles.labels(self._kind.stream).inc()

    # Entries come in

    def _accept(self, entries: Sequence[Entry], catalog: Catalog) -> None:
        self._telemetry.entries.labels(self._kind.stream).inc(len(entries))
        for entry in entries:
            self._held.add(entry.id)
            self._parse(entry, catalog)

    def _parse(self, entry: Entry, catalog: Catalog) -> None:
        try:
            self._fresh.append((entry, self._kind.parse(entry, catalog)))
        except Unusable as error:
            self._fail(entry, str(error))
        except Exception as error:  # an entry nobody thought of must not hold up the others
            log.exception("an entry could not be parsed", stream=self._kind.stream, entry=entry.id)
            self._fail(entry, f"{type(error).__name__}: {error}")

    def _fail(self, entry: Entry, reason: str) -> None:
        self._telemetry.failed.labels(self._kind.stream).inc()
        last = entry.tries >= self._policy.tries
        wait_s = 0.0 if last else self._policy.retry_s * 2 ** (entry.tries - 1)
        heapq.heappush(self._failing, _Due(time.monotonic() + wait_s, next(self._numbers), (entry, reason)))

    def _retry(self, catalog: Catalog) -> None:
        """Entries that failed: again, since a new item may have come into the catalog; in the end a dead letter."""
        while self._failing and self._failing[0].at <= time.monotonic():
            entry, reason = self._failing[0].what
            if entry.tries >= self._policy.tries:
                if self._is_forgotten(entry):
                    self._group.drop([entry.id])
                elif self._group.bury(entry, reason, self._policy.dead_letters):
                    self._telemetry.dead_letters.labels(self._kind.stream).inc()
                    log.warning("dead letter", stream=self._kind.stream, entry=entry.id, reason=reason)
                again = []
            else:
                again = self._group.retry([entry])
            heapq.heappop(self._failing)
            if again:
                self._parse(again[0], catalog)
            else:
                self._held.discard(entry.id)

    def _is_forgotten(self, entry: Entry) -> bool:
        user, _ = who(entry.fields)
        return user is not None and bool(self._forgotten([user]))

    def _use(self, catalog: Catalog) -> None:
        if not self._fresh:
            return
        self._kind.use(self._fresh, catalog)
        now = time.monotonic()
        server_ms = 1000 * now + self._server_ahead_ms
        for entry, value in self._fresh:
            waits_s = self._kind.hold_s - (server_ms - entry.at_ms) / 1000 if self._kind.hold_s else 0.0
            heapq.heappush(self._waiting, _Due(now + max(waits_s, 0.0), next(self._numbers), (entry, value)))
        self._fresh = []

    # Rows go out

    def _hand_over(self, *, everything: bool = False) -> None:
        """Give what is due to the writer, when that is free and time or number ask for it."""
        now = time.monotonic()
        while self._waiting and self._waiting[0].at <= now:
            if not self._ready:
                self._ready_since = now
            self._ready.append(heapq.heappop(self._waiting).what)
        if self._writing is not None or not self._ready:
            return
        if (
            everything
            or len(self._ready) >= self._policy.flush_entries
            or now - self._ready_since >= self._policy.flush_s
        ):
            batch = self._ready[: self._policy.flush_entries]
            self._ready = self._ready[self._policy.flush_entries :]
            self._writing = self._writer.submit(self._write, batch)
            self._batch_ids = [entry.id for entry, _ in batch]

    def _collect(self) -> None:
        if self._writing is not None and self._writing.done():
            self._await_writer()

    def _await_writer(self) -> None:
        if self._writing is not None:
            try:
                self._writing.result()
            finally:
                # written, or lost to others, or (after an error that nobody thought of) claimed again later
                self._held.difference_update(self._batch_ids)
                self._writing = None

    def _write(self, batch: Sequence[tuple[Entry, T]]) -> None:
        """Every entry of the batch into its day's file, or nowhere, if another reader took it over."""
        days: dict[date, list[tuple[Entry, T]]] = {}
        for entry, value in batch:
            days.setdefault(self._kind.day(value), []).append((entry, value))
        for day, entries in sorted(days.items()):
            with self._files.writing():
                self._write_file(day, self._persist(partial(self._remembered, entries)))

    def _remembered(self, entries: list[tuple[Entry, T]]) -> list[tuple[Entry, T]]:
        """Without those of users who were forgotten, which are done with."""
        gone = self._forgotten(self._kind.user(value) for _, value in entries)
        if not gone:
            return entries
        dropped = [entry.id for entry, value in entries if self._kind.user(value) in gone]
        self._group.drop(dropped)
        log.info("entries of forgotten users dropped", stream=self._kind.stream, entries=len(dropped))
        return [(entry, value) for entry, value in entries if self._kind.user(value) not in gone]

    def _write_file(self, day: date, entries: list[tuple[Entry, T]]) -> None:
        stream = self._kind.stream
        while entries:
            started = time.perf_counter()
            name = self._files.new_name(self._kind.table, day)
            ids = [entry.id for entry, _ in entries]
            table = self._persist(partial(self._kind.rows, entries))
            self._persist(partial(self._files.write, name, table))
            lost = self._persist(partial(self._group.take, ids, name))
            if lost:
                self._files.discard(name)
                self._telemetry.lost.labels(stream).inc(len(lost))
                log.warning("others took entries over; written without them", stream=stream, entries=len(lost))
                entries = [(entry, value) for entry, value in entries if entry.id not in lost]
                continue
            self._persist(partial(self._complete, name, ids))
            self._telemetry.flush_size.labels(stream).observe(len(ids))
            self._telemetry.flush_seconds.labels(stream).observe(time.perf_counter() - started)
            return

    def _complete(self, name: str, ids: Sequence[str]) -> bool:
        """Steps 3 and 4. False where the file is gone and its entries are to be written anew."""
        if not self._files.publish(name):
            return False
        self._group.finish(ids, name)
        return True

    def _persist(self, step: Callable[[], Result]) -> Result:
        """Do a step, again and again while Redis or the disk fail. Raises Abandoned at the end of the process."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return step()
            except (RedisError, OSError) as error:
                if isinstance(error, ResponseError) and str(error).startswith("NOGROUP"):
                    self._group.ensure()  # the server was emptied: nothing is pending any more
                self._telemetry.troubles.labels(self._kind.stream).inc()
                log.warning("cannot write now; tried again", stream=self._kind.stream, error=f"{error}")
                if self._abandon.wait(pause_s):
                    raise Abandoned(f"{type(error).__name__}: {error}") from error
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    # What others left behind

    def _housekeeping(self, catalog: Catalog) -> None:
        group, policy, stream = self._group, self._policy, self._kind.stream
        group.ensure()
        # Entries have their time of the server: this machine's clock, if it were off, would hold lists for hours, or
        # write them before their clicks are in.
        self._server_ahead_ms = group.now_ms() - 1000 * time.monotonic()
        idle_ms = int(1000 * policy.claim_after_s)
        group.renew(idle_ms // 3, self._held)
        for name, ids in group.unfinished(idle_ms).items():
            if not is_live_name(name):
                log.error("a file of no known name is being written; left alone", stream=stream, file=name)
            elif self._complete(name, ids):
                self._telemetry.recovered.labels(stream).inc()
                log.info("finished another worker's file", stream=stream, file=name, entries=len(ids))
            else:
                log.error("a file vanished before it was acknowledged; written anew", stream=stream, file=name)
                self._accept(group.take_back(ids, name), catalog)
        room = self._room()
        if room > 0:
            claimed = group.claim(int(1000 * (policy.claim_after_s + self._kind.hold_s)), room, self._held)
            if claimed:
                self._telemetry.claimed.labels(stream).inc(len(claimed))
                log.info("took entries over", stream=stream, entries=len(claimed))
            self._accept(claimed, catalog)
        group.trim()
        group.forget_idle(int(1000 * _IDLE_READER_S))
        self._sweep()
        self._tell(group.backlog())

    def _sweep(self) -> None:
        """Remove temporary files that nobody will finish; a look at every file there is, so not often."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _OLD_FILE_S / 6
        for name in self._files.temporary(self._kind.table, _OLD_FILE_S):
            if not self._group.is_committing(name):
                self._files.discard(name)

    def _tell(self, backlog: Backlog) -> None:
        self._telemetry.length.labels(self._kind.stream).set(backlog.length)
        self._telemetry.pending.labels(self._kind.stream).set(backlog.pending)
