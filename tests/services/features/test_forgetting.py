"""A forgotten user is nowhere: in no file, no key, no stream, not in Redis's own log; and does not come back.

Against a real server and real Parquet.
"""

import asyncio
import json
import threading
import time
import uuid
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from cascade.features.point_in_time import ONLINE_SCHEMA
from cascade.online import keys
from cascade.online.activity import ACTIVITY_FILE, Activity
from cascade.online.connection import connect
from cascade.online.errors import ForgottenUser
from cascade.online.feast_rows import row_key
from cascade.online.interactions import Event, Interactions
from cascade.online.server import RedisServer, free_port
from cascade.online.streams import Backlog, ConsumerGroup
from cascade.privacy import receipts
from cascade.privacy.suppression import Suppression
from cascade.serving.metrics import ServiceMetrics
from cascade.store import ModelStore
from services.features.files import LiveFiles
from services.features.forgetting import Forgetting, Places
from services.features.ingest import Ingest, Policy
from services.features.kinds import Impressions, OfflinePushes
from services.features.kinds import Interactions as Events
from services.features.rows import EVENT_SCHEMA, IMPRESSION_SCHEMA
from services.features.telemetry import Telemetry

USER, OTHER = "user-to-be-forgotten", "somebody-else"
MONDAY = 1_767_571_200
CATALOG = {"i0": "c0", "i1": "c1"}
POLICY = Policy(cycle_s=0, flush_s=0.001, claim_after_s=0.1, tries=1, retry_s=0.0)


class Online:
    """In place of Feast."""

    def __init__(self):
        self.offline = []

    def refresh(self, client, users, category_of):
        return {user: Activity("c0", 1) for user in users}

    def push_offline(self, activities, most_rows, forgotten):
        gone = forgotten(activities)
        self.offline += [user for user in activities if user not in gone]
        return 0.0


class World:
    """A shop with its store, its files, and a worker's parts."""

    def __init__(self, client, url, root):
        self.client, self.url, self.root = client, url, root
        self.dataset, self.offline = root / "shop", root / "feast" / "offline"
        self.telemetry = Telemetry(ServiceMetrics("features"))
        self.files = LiveFiles(self.dataset)
        self.store = ModelStore(root / "models")
        self.online = Online()
        self.forgotten = Suppression(client).among
        self.pushes = OfflinePushes(self.online, self.telemetry, 1, 9, self.forgotten)

    def forgetting(self, worker="one", **changes):
        places = Places(self.dataset, self.offline, self.root / "artifacts")
        options = {"poll_s": 0.01, "settle_s": 0.0, **changes}
        store = options.pop("store", self.store)
        return Forgetting(self.client, worker, self.files, places, store, self.telemetry, **options)

    def ingest(self, kind):
        group = ConsumerGroup(self.client, kind.stream, keys.FEATURES_GROUP, f"reader of {kind.stream}")
        return Ingest(group, kind, self.files, lambda: CATALOG, POLICY, self.telemetry, self.forgotten)

    def events(self):
        return self.ingest(Events(self.client, self.online, self.pushes, self.telemetry))

    def call(self, step):
        """Something over an async client."""

        async def run():
            client = connect(self.url, timeout_s=5)
            try:
                return await step(client)
            finally:
                await client.aclose()

        return asyncio.run(run())

    def forget(self, user=USER):
        return self.call(lambda client: receipts.begin(client, user))

    def receipt(self, told):
        return self.call(lambda client: receipts.read(client, told["receipt"]))

    def record(self, user, item="i0", request=None):
        event = Event(user, item, MONDAY + 5, "click", "mobile", request)
        return self.call(lambda client: Interactions(client).record(event, uuid.uuid4().hex))

    def everything_in_redis(self):
        """Every key, value, field and member, as bytes."""
        found = []
        for name in self.client.scan_iter():
            found.append(name)
            kind = self.client.type(name)
            if kind == b"string":
                found.append(self.client.get(name))
            elif kind == b"list":
                found += self.client.lrange(name, 0, -1)
            elif kind == b"set":
                found += self.client.smembers(name)
            elif kind == b"hash":
                found += [part for pair in self.client.hgetall(name).items() for part in pair]
            elif kind == b"stream":
                found += [part for _, fields in self.client.xrange(name) for pair in fields.items() for part in pair]
                found += [row["name"] for row in self.client.xinfo_groups(name)]
            else:
                raise AssertionError(f"{name}: {kind}")
        return found

    def files_with(self, text):
        """Files that hold it, compressed Parquet included."""
        found = []
        for path in self.root.rglob("*"):
            if not path.is_file():
                continue
            content = path.read_bytes()
            if ".parquet" in path.name and content[:4] == b"PAR1":
                content += json.dumps(pq.read_table(path, partitioning=None).to_pylist(), default=str).encode()
            if text.encode() in content or text in path.name:
                found.append(path)
        return found


@pytest.fixture
def world(tmp_path):
    with (
        RedisServer(tmp_path / "redis", free_port(), appendfsync="no") as server,
        redis.Redis.from_url(server.url) as client,
    ):
        yield World(client, server.url, tmp_path)


def event_rows(*users):
    rows = [
        {"user_id": user, "item_id": "i0", "timestamp": MONDAY, "device_type": None, "event_type": "click",
         "event_id": f"{n}-0", "request_id": f"list-of-{user}"}
        for n, user in enumerate(users)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)


def impression_rows(*users):
    rows = [
        {"request_id": f"list-of-{user}", "user_id": user, "timestamp": MONDAY, "device_type": None, "item_id": "i0",
         "position": 1, "propensity": 1.0, "clicked": False, "event_id": f"{n}-0", "score": 0.1, "versions": "{}",
         "track": "{}", "assigned": None}
        for n, user in enumerate(users)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=IMPRESSION_SCHEMA)


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def shown(user):
    return json.dumps(
        {"request_id": f"list-of-{user}", "user_id": user, "timestamp": MONDAY, "device_type": None, "tracks": {},
         "versions": {}, "items": [{"item_id": "i0", "position": 1, "propensity": 1.0, "score": 0.1}]}
    )  # fmt: skip


def fill(world):
    """Traces of both users wherever the system leaves some."""
    shop = world.dataset
    for day in ("2026-01-04", "2026-01-05"):
        write(shop / f"interactions/date={day}/part-0.parquet", event_rows(USER, OTHER, USER))
        write(shop / f"interactions/date={day}/live-1-a.parquet", event_rows(USER))
        write(shop / f"interactions/date={day}/live-2-b.parquet", event_rows(OTHER))
        write(shop / f"impressions/date={day}/live-3-c.parquet", impression_rows(OTHER, USER))
    write(shop / "interactions/date=2026-01-05/.live-4-d.parquet.part", event_rows(OTHER, USER))
    write(shop / "users.parquet", pa.table({"user_id": [USER, OTHER], "age": [30, 40]}))
    moments = pa.array([MONDAY * 1_000_000] * 2, pa.timestamp("us", tz="UTC"))
    activity = pa.table({"user_id": [OTHER, USER], "top_category": ["c0", "c1"], "event_timestamp": moments})
    write(world.offline / ACTIVITY_FILE, activity.cast(ONLINE_SCHEMA))
    write(world.offline / "user_profile.parquet", pa.table({"user_id": [USER, OTHER], "age": [1.0, 2.0]}))
    write(world.root / "artifacts/training_rows/rows.parquet", event_rows(USER, OTHER))

    for user in (USER, OTHER):
        world.record(user, request=f"list-of-{user}")
        world.client.xadd(keys.IMPRESSIONS, {"payload": shown(user)})
        world.client.xadd(keys.DEAD_LETTERS, {"stream": keys.EVENTS, "reason": "x", "entry.user_id": user})
        world.client.hset(row_key(user), "a", "b")
        world.client.sadd(keys.canary_users("ranker", "v", 1), user)
    for service, day in (("ranker", "2026-01-05"), ("retrieval", "2026-01-09")):
        bundle = world.store.write(
            service, lambda folder: (folder / "w").write_text("w"), training_days=[date.fromisoformat(day)]
        )
        world.store.set_alias(service, "stable", bundle.version)


def test_the_user_is_nowhere_and_the_other_one_is_untouched(world):
    fill(world)
    assert len(world.files_with(USER)) >= 8
    told = world.forget()
    assert told["status"] == "pending"
    assert told["removed"] == {"history": 2, "features": 1}
    assert world.forgetting().work() == 1

    done = world.receipt(told)
    assert done["status"] == "done"
    removed = done["removed"]
    assert (removed["interactions"], removed["impressions"], removed["users"]) == (7, 2, 1)
    assert (removed["offline_features"], removed["artifacts"]) == (2, 1)
    assert (removed["pending_events"], removed["pending_impressions"], removed["dead_letters"]) == (1, 1, 1)
    assert (removed["clicks_of_lists"], removed["canary_counts"]) == (1, 1)
    assert done["days"] == ["2026-01-04", "2026-01-05"]
    (learned,) = done["checkpoints"]
    assert (learned["service"], learned["aliases"], learned["days"]) == ("ranker", ["stable"], ["2026-01-05"])
    assert "full retrain" in learned["replaced"]
    assert USER not in json.dumps(done)

    while world.client.info("persistence")["aof_rewrite_in_progress"] or world.client.info("persistence").get(
        "aof_rewrite_scheduled"
    ):
        time.sleep(0.05)
    assert [entry for entry in world.everything_in_redis() if USER.encode() in entry] == []
    assert world.files_with(USER) == []

    left = pq.read_table(world.dataset / "interactions/date=2026-01-05/part-0.parquet", partitioning=None)
    assert left["user_id"].to_pylist() == [OTHER]
    assert not (world.dataset / "interactions/date=2026-01-05/live-1-a.parquet").exists()
    assert world.client.exists(keys.seen(OTHER), keys.recent(OTHER), row_key(OTHER)) == 3
    assert world.client.xlen(keys.EVENTS) == world.client.xlen(keys.IMPRESSIONS) == 1
    assert len(world.files_with(OTHER)) >= 8


def test_a_late_event_does_not_bring_the_id_back(world):
    world.forget()
    world.forgetting().work()
    before = world.client.dbsize()
    with pytest.raises(ForgottenUser):
        world.record(USER, request="r")
    assert world.client.dbsize() == before
    assert world.client.xlen(keys.EVENTS) == 0
    assert world.record(OTHER)


@pytest.mark.parametrize("when", ["before they are read", "while a worker holds them"])
def test_what_is_under_way_becomes_no_row(world, when):
    """Without the work on the queue: the worker alone must drop them."""
    for user in (USER, OTHER):
        world.record(user)
        world.client.xadd(keys.IMPRESSIONS, {"payload": shown(user)})
        world.client.xadd(keys.EVENTS, {"user_id": user, "item_id": "?", "timestamp": "1", "event_type": "click",
                                        "device_type": "", "request_id": ""})  # fmt: skip
    both = [world.events(), world.ingest(Impressions(world.client, 0.0))]
    if when == "while a worker holds them":
        for one in both:
            one._policy = Policy(flush_s=3600, flush_entries=10_000, tries=1, retry_s=3600)
            one.cycle()
            one._policy = POLICY
    world.forget()
    deadline = time.monotonic() + 20
    for one in both:
        one._group.ensure()
        while one._group.backlog() != Backlog(0, 0):
            one.cycle()
            one._next_housekeeping = 0.0
            assert time.monotonic() < deadline
        one.close(1.0)
    world.pushes._push()
    tables = {
        name: [row["user_id"] for path in (world.dataset / name).rglob("*.parquet")
               for row in pq.read_table(path, partitioning=None).to_pylist()]
        for name in ("interactions", "impressions")
    }  # fmt: skip
    assert tables == {"interactions": [OTHER], "impressions": [OTHER]}
    letters = [fields[b"entry.user_id"] for _, fields in world.client.xrange(keys.DEAD_LETTERS)]
    assert letters == [OTHER.encode()]
    assert USER not in world.online.offline


def test_rows_being_written_are_waited_for(world):
    fill(world)
    world.forget()
    done = threading.Event()

    def work():
        world.forgetting().work()
        done.set()

    with world.files.writing():
        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(0.3)
        write(world.dataset / "interactions/date=2026-01-05/live-9-z.parquet", event_rows(USER))
    thread.join(30)
    assert not [path for path in world.files_with(USER) if "redis" not in path.parts]


def test_work_that_fails_is_done_again_and_one_worker_works(world):
    fill(world)
    told = world.forget()

    class Down:
        def aliases(self, service):
            raise OSError("the store is away")

    with pytest.raises(OSError, match="away"):
        world.forgetting(store=Down()).work()
    assert world.receipt(told)["status"] == "pending"
    world.client.set(keys.FORGETTING_LOCK, "another", ex=60)
    assert world.forgetting("two").work() == 0
    world.client.delete(keys.FORGETTING_LOCK)
    assert world.forgetting("two").work() == 1
    assert world.receipt(told)["status"] == "done"
    assert world.client.exists(keys.FORGETTING_LOCK, keys.FORGETTINGS) == 0


def test_work_waits_for_what_was_under_way(world):
    world.forget()
    assert world.forgetting(settle_s=60.0).work() == 0
    assert world.forgetting(settle_s=0.0).work() == 1
