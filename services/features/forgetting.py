"""Removes what is left of forgotten users: entries of streams, rows of every Parquet file, and says so in a receipt.

One worker at a time does it, in a thread of its own. Whatever dies or fails on the way, it is done again from the
start: each step finds nothing where it was done already, so a receipt may then count fewer rows than there were.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cascade.data.contract import IMPRESSIONS, INTERACTIONS
from cascade.errors import CascadeError
from cascade.online.activity import ACTIVITY_FILE, offline_activity_lock
from cascade.privacy.checkpoints import trained_on
from cascade.privacy.files import Erased, erase_rows
from cascade.privacy.online import erase_clicks, erase_entries, erase_keys, erase_members, shorten_log
from cascade.privacy.receipts import Queue
from cascade.serving.logging import get_logger
from cascade.store import ModelStore
from services.features.files import LiveFiles
from services.features.telemetry import Telemetry

log = get_logger(__name__)

_IDEMPOTENCY = "Notes of writes that may be sent again hold no user; they end within a minute."
_LOG_STAYS = (
    "Redis did not take the request to rewrite its append-only file; the file holds old commands until it does."
)
_UNREADABLE = "Not readable, and left as they are: "


@dataclass(frozen=True)
class Places:
    """Where rows of users are. artifacts: of the build; None: elsewhere, and not this worker's."""

    dataset: Path
    offline: Path
    artifacts: Path | None


class Forgetting:
    """Works off the queue. `run` in a thread of its own.

    settle_s: how long after a request the work begins; what was under way then ends by itself, in seconds
    """

    def __init__(
        self,
        redis: Redis,
        worker: str,
        files: LiveFiles,
        places: Places,
        store: ModelStore,
        telemetry: Telemetry,
        *,
        poll_s: float,
        settle_s: float,
    ) -> None:
        self._redis = redis
        self._queue = Queue(redis, worker)
        self._files = files
        self._places = places
        self._store = store
        self._telemetry = telemetry
        self._poll_s = poll_s
        self._settle = timedelta(seconds=settle_s)

    def run(self, stop: threading.Event) -> None:
        """Look and work until told to stop."""
        while not stop.wait(self._poll_s):
            try:
                self.work()
            except (RedisError, OSError, CascadeError) as error:
                self._telemetry.forgetting_failures.inc()
                log.warning("a user is not forgotten yet; tried again", error=f"{type(error).__name__}: {error}")
            except Exception:  # a defect must not end the thread: the request stays open and is tried again
                self._telemetry.forgetting_failures.inc()
                log.exception("a user is not forgotten yet; tried again")

    def work(self) -> int:
        """Do what is due; → how many users. Raises what Redis, the disk or the model store raise."""
        due = [(receipt, user) for receipt, user in self._queue.open().items() if self._is_due(receipt)]
        if not due or not self._queue.hold():
            return 0
        try:
            for receipt, user in due:
                self._queue.done(receipt, self._forget(user))
                self._telemetry.forgotten.inc()
                log.info("a user is forgotten", receipt=receipt)
            if not shorten_log(self._redis):  # not before: the queue held the ids
                for receipt, _ in due:
                    self._queue.remark(receipt, _LOG_STAYS)
        finally:
            self._queue.release()
        return len(due)

    def _is_due(self, receipt: str) -> bool:
        asked = self._queue.asked(receipt)
        return asked is None or datetime.now(UTC) - asked >= self._settle

    def _forget(self, user: str) -> Mapping[str, object]:
        entries, requests = erase_entries(self._redis, user)
        tables = self._erase_tables(user)
        for erased in tables.values():
            requests |= erased.requests
        removed = {
            **entries,
            **{table: erased.rows for table, erased in tables.items()},
            "files_rewritten": sum(erased.files for erased in tables.values()),
            "clicks_of_lists": erase_clicks(self._redis, requests),
            "canary_counts": erase_members(self._redis, user),
            "online_later": erase_keys(self._redis, user),
        }
        days: set[date] = set().union(*(erased.days for erased in tables.values()))
        remarks = [_IDEMPOTENCY]
        unreadable = [f"{table}/{name}" for table, erased in tables.items() for name in erased.unreadable]
        if unreadable:
            remarks.append(_UNREADABLE + ", ".join(unreadable[:20]))
        if self._places.artifacts is None:
            remarks.append("The build's artifacts are not this worker's; its next run makes them anew.")
        return {
            "removed": removed,
            "days": [day.isoformat() for day in sorted(days)],
            "checkpoints": trained_on(self._store, days),
            "remarks": remarks,
        }

    def _erase_tables(self, user: str) -> dict[str, Erased]:
        places = self._places
        found: dict[str, Erased] = {}
        with self._files.rewriting():
            for table in (INTERACTIONS, IMPRESSIONS):
                found[table] = erase_rows(places.dataset / table, user, self._queue.hold)
            found["users"] = erase_rows(places.dataset, user, self._queue.hold)  # what is left: users.parquet
        with offline_activity_lock(places.offline / ACTIVITY_FILE):
            found["offline_features"] = erase_rows(places.offline, user, self._queue.hold)
        if places.artifacts is not None:
            found["artifacts"] = erase_rows(places.artifacts, user, self._queue.hold)
        return found
