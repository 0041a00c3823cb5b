"""The top category of users who did something just now: from their recent items into Feast's two stores.

What is pushed depends on the recent items alone and not on the events that led to it, so that an event delivered
twice changes nothing.
"""

from __future__ import annotations

import fcntl
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from redis import Redis

from cascade.features.point_in_time import ONLINE_SCHEMA
from cascade.features.top_category import EVENT_WEIGHTS, EventWeights, top_category_of
from cascade.files import replacing
from cascade.online import keys
from cascade.online.connection import connect_blocking
from cascade.online.errors import FeatureStoreNotReady
from cascade.online.feast_config import ACTIVITY_PUSH_SOURCE, ACTIVITY_VIEW, ENTITY, feature_store
from cascade.online.feast_rows import ViewRows, write_rows
from cascade.online.interactions import RecentItem

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

ACTIVITY_FILE = "user_activity.parquet"
_ROUNDS = 5

CategoryOf = Callable[[str], str | None]
"""item id → category_l1; None for an item without one."""


@dataclass(frozen=True)
class Activity:
    """What is pushed of one user. at: UTC seconds of the newest event it was made from."""

    top_category: str | None
    at: int


def activity_of(
    recent: Iterable[tuple[int, str, str]], category_of: CategoryOf, weights: EventWeights = EVENT_WEIGHTS
) -> Activity | None:
    """The top category right after the newest of these events, by the events' own time; None without events.

    recent: RecentItem, or its `parts`

    The last READ events of a user are read: who does more than that within 24 hours is described by these, where
    training would count them all.
    """
    events = [(category_of(item_id), timestamp, event_type) for timestamp, event_type, item_id in recent]
    if not events:
        return None
    newest = max(timestamp for _, timestamp, _ in events)
    return Activity(top_category_of(events, newest + 1, weights), newest)


READ = 50
"""Latest events of a user that his activity is told by: each event costs reading them."""


class FeastActivity:
    """Pushes user activity. For one thread; several may each have one. Feast's client blocks.

    Methods raise FeatureStoreNotReady before the registry is built, and what Redis' client raises.
    """

    def __init__(
        self, registry: Path, redis_url: str, weights: EventWeights = EVENT_WEIGHTS, timeout_s: float = 2.0
    ) -> None:
        self._registry = registry
        self._redis_url = redis_url
        self._weights = weights
        self._timeout_s = timeout_s
        self._store: FeatureStore | None = None
        self._client: Redis | None = None

    def refresh(self, redis: Redis, user_ids: Iterable[str], category_of: CategoryOf) -> dict[str, Activity]:
        """Recompute these users from their recent items and push them online; returns what was pushed.

        Several workers may meet one user: whoever pushes looks again afterwards, and pushes again where the recent
        items went on; so the last push is of the newest items, whichever worker's it is. Users without recent items
        (forgotten since) are left alone.
        """
        pushed: dict[str, Activity] = {}
        known = self._recent(redis, list(user_ids))
        changed = self._activities(known, category_of)
        for _ in range(_ROUNDS):
            if not changed:
                break
            self.push_online(changed)
            pushed |= changed
            now = self._recent(redis, list(changed))
            went_on = {user: entries for user, entries in now.items() if entries != known[user]}
            known |= went_on
            again = self._activities(went_on, category_of)
            changed = {user: activity for user, activity in again.items() if activity != pushed[user]}
        return pushed

    def push_online(self, activities: Mapping[str, Activity]) -> None:
        """Into the online store, in one go; what is stored is replaced, whatever moment it is of.

        `refresh` takes care of the order: a value of the same moment may describe another event too.
        """
        self._ready()
        if self._client is None:
            self._client = connect_blocking(self._redis_url, timeout_s=self._timeout_s)
        rows = ViewRows(
            ACTIVITY_VIEW,
            list(activities),
            [1_000_000 * activity.at for activity in activities.values()],
            {"top_category": [activity.top_category for activity in activities.values()]},
        )
        write_rows(self._client, rows, keep_later=False)

    def push_offline(
        self,
        activities: Mapping[str, Activity],
        most_rows: int,
        forgotten: Callable[[Iterable[str]], set[str]] = lambda _: set(),
    ) -> float:
        """Into the offline file, which Feast reads and writes whole; returns seconds taken.

        most_rows: the file's newest rows that are kept when it has grown beyond them, so that a push stays cheap; the
            daily build writes the file anew from the interactions
        forgotten: → those of some users who were forgotten; asked while nobody removes rows
        """
        from feast.data_source import PushMode

        store = self._ready()
        started = time.perf_counter()
        file = Path(store.get_feature_view(ACTIVITY_VIEW).batch_source.path)
        with offline_activity_lock(file):
            gone = forgotten(activities)
            activities = {user: activity for user, activity in activities.items() if user not in gone}
            if not activities:
                return 0.0
            _keep_newest(file, most_rows - len(activities))
            with _own_session():
                store.push(ACTIVITY_PUSH_SOURCE, _frame(activities), to=PushMode.OFFLINE)
        return time.perf_counter() - started

    def warm_up(self) -> None:
        """Import Feast and read its registry, before the first event waits for it."""
        import feast.infra.offline_stores.duckdb  # noqa: F401  (Feast itself imports it at the first push)

        self._ready().list_data_sources()

    def _ready(self) -> FeatureStore:
        if self._store is None:
            if not self._registry.exists():
                raise FeatureStoreNotReady(
                    f"Feast has no registry at {self._registry}; build the online features first"
                )
            self._store = feature_store(self._registry, self._redis_url, self._timeout_s)
        return self._store

    def _recent(self, redis: Redis, user_ids: list[str]) -> dict[str, list[bytes]]:
        """The recent items of each user as they are stored."""
        with redis.pipeline(transaction=False) as step:
            for user_id in user_ids:
                step.lrange(keys.recent(user_id), 0, READ - 1)
            return dict(zip(user_ids, step.execute(), strict=True))

    def _activities(self, recent: Mapping[str, list[bytes]], category_of: CategoryOf) -> dict[str, Activity]:
        found: dict[str, Activity] = {}
        for user_id, entries in recent.items():
            parts = map(RecentItem.parts, map(bytes.decode, entries))
            activity = activity_of(parts, category_of, self._weights)
            if activity is not None:
                found[user_id] = activity
        return found


@contextmanager
def offline_activity_lock(file: Path) -> Iterator[None]:
    """Held while the offline file is read and written whole; the system drops it when its holder dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _own_session() -> Iterator[None]:
    """A session of ibis for what Feast does meanwhile: each push leaves three tables there, which hold the rows pushed
    until the session ends.

    The trees of SQL that ibis makes for it refer to themselves in circles. They are a hundred objects a push, and the
    collector comes after 70,000: hundreds of pushes, 14 KB each, would wait for it.

    One thread: a push is a few rows, and the cores are for visitors.
    """
    import ibis  # type: ignore[import-untyped,unused-ignore]

    before, own = ibis.options.default_backend, ibis.duckdb.connect(threads=1)
    ibis.set_backend(own)
    try:
        yield
    finally:
        ibis.options.default_backend = before
        own.disconnect()
        del own
        gc.collect()


def _keep_newest(file: Path, rows: int) -> None:
    """Bound the file; one that is missing, or that a killed push left half-written, begins anew."""
    try:
        count = pq.read_metadata(file).num_rows
    except (FileNotFoundError, pa.ArrowInvalid):
        with replacing(file) as beside:
            pq.write_table(ONLINE_SCHEMA.empty_table(), beside)
        return
    if count <= max(rows, 0):
        return
    table = pq.read_table(file)
    # Down to half, so that it does not happen at every push.
    newest = pc.sort_indices(table, [("event_timestamp", "descending"), (ENTITY, "ascending")])[: max(rows, 0) // 2]
    with replacing(file) as beside:
        pq.write_table(table.take(newest), beside, coerce_timestamps="us")


def _frame(activities: Mapping[str, Activity]) -> pd.DataFrame:
    import pandas as pd

    times = [datetime.fromtimestamp(activity.at, UTC) for activity in activities.values()]
    return pd.DataFrame(
        {
            ENTITY: list(activities),
            "top_category": pd.Series([activity.top_category for activity in activities.values()], dtype="object"),
            "event_timestamp": pd.Series(times, dtype="datetime64[us, UTC]"),
        }
    )
