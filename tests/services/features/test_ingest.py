"""Exactly once, whatever dies between which two steps."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
from redis.exceptions import ConnectionError as RedisGone

from cascade.online import keys
from cascade.online.activity import Activity
from cascade.online.interactions import Event
from cascade.online.streams import ConsumerGroup
from cascade.serving.metrics import ServiceMetrics
from services.features.files import LiveFiles
from services.features.ingest import Ingest, Policy
from services.features.kinds import Impressions, Interactions, OfflinePushes
from services.features.telemetry import Telemetry

DAY = 86_400
MONDAY = 1_767_571_200  # 2026-01-05
CATALOG = {"i0": "c0", "i1": "c1"}
POLICY = Policy(cycle_s=0, flush_s=0.001, claim_after_s=0.1, tries=3, retry_s=0.001)

STEPS = ("write", "take", "publish", "finish")


class Killed(BaseException):
    """What no handler catches: the process is gone."""


class Failing:
    """Stands before an object and raises once, before or after one of its methods does its work."""

    def __init__(self, real: Any, method: str, moment: str, error: BaseException) -> None:
        self._real, self._method, self._moment = real, method, moment
        self._errors = [error]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name != self._method:
            return method

        def failing(*arguments: Any) -> Any:
            if self._moment == "before" and self._errors:
                raise self._errors.pop()
            result = method(*arguments)
            if self._errors:
                raise self._errors.pop()
            return result

        return failing


class Online:
    """In place of Feast: remembers who was refreshed."""

    def __init__(self) -> None:
        self.refreshed: list[str] = []
        self.offline: list[dict[str, Activity]] = []
        self.error: Exception | None = None

    def refresh(self, client: redis.Redis, users: Sequence[str], category_of: Callable[[str], str | None]) -> Any:
        if self.error is not None:
            raise self.error
        self.refreshed += users
        return {user: Activity("c0", 1) for user in users}

    def push_offline(self, activities: Mapping[str, Activity], most_rows: int, forgotten: Any = None) -> float:
        if self.error is not None:
            raise self.error
        self.offline.append(dict(activities))
        return 0.0


class Shop:
    """Streams in a real Redis, a dataset folder, and workers to open on them."""

    def __init__(self, client: redis.Redis, root: Path) -> None:
        self.client, self.root = client, root
        self.catalog = dict(CATALOG)
        self.online = Online()
        self.metrics = ServiceMetrics("features")
        self.telemetry = Telemetry(self.metrics)
        self.files = LiveFiles(root)
        self.kind: Any = Interactions(
            client,
            self.online,
            OfflinePushes(self.online, self.telemetry, 1, 9),
            self.telemetry,  # type: ignore[arg-type]
        )
        self._opened: list[Ingest[Any]] = []

    def open(self, name: str, policy: Policy = POLICY, files: Any = None, group: Any = None) -> Ingest[Any]:
        made = Ingest(
            group or self.group(name), self.kind, files or self.files, lambda: self.catalog, policy, self.telemetry
        )
        self._opened.append(made)
        return made

    def group(self, name: str) -> ConsumerGroup:
        return ConsumerGroup(self.client, self.kind.stream, keys.FEATURES_GROUP, name)

    def add(self, count: int, days: int = 2) -> list[str]:
        events = [Event(f"u{n}", f"i{n % 2}", MONDAY + n % days * DAY, "click", None, "r") for n in range(count)]
        return [self.client.xadd(keys.EVENTS, event.fields()).decode() for event in events]

    def work(self, ingest: Ingest[Any], until: Callable[[], bool]) -> None:
        limit = time.monotonic() + 60
        while not until():
            assert time.monotonic() < limit
            ingest.cycle()

    def rows(self) -> list[dict[str, Any]]:
        files = sorted((self.root / self.kind.table).glob("date=*/*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

    def done(self) -> bool:
        return not self.client.xlen(self.kind.stream)

    def value(self, sample: str) -> float | None:
        return self.metrics.registry.get_sample_value(sample, {"stream": self.kind.stream})

    def close(self) -> None:
        for ingest in self._opened:
            ingest._writer.shutdown()


@pytest.fixture
def shop(redis_url: str, tmp_path: Path) -> Iterator[Shop]:
    with redis.Redis.from_url(redis_url) as client:
        shop = Shop(client, tmp_path)
        yield shop
        shop.close()


def test_rows_lie_on_their_days_and_the_stream_is_emptied(shop: Shop) -> None:
    added = shop.add(10)
    shop.work(shop.open("one"), shop.done)
    rows = shop.rows()
    assert sorted(row["event_id"] for row in rows) == added
    for folder in (shop.root / "interactions").iterdir():
        assert not list(folder.glob(".*")), "nothing temporary stays"
        for file in folder.glob("*.parquet"):
            assert {row["timestamp"] // DAY for row in pq.ParquetFile(file).read().to_pylist()} == {
                (MONDAY // DAY) + (folder.name == "date=2026-01-06")
            }
    assert set(shop.online.refreshed) == {f"u{n}" for n in range(10)}
    assert shop.value("cascade_stream_entries_total") == 10
    assert rows[0] | {"event_id": "", "user_id": "", "item_id": ""} == {
        "user_id": "", "item_id": "", "timestamp": MONDAY, "device_type": None, "event_type": "click",
        "event_id": "", "request_id": "r",
    }  # fmt: skip


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_any_step_leaves_its_entries_to_another(shop: Shop, step: str, moment: str) -> None:
    added = shop.add(10)
    real: Any = shop.files if step in ("write", "publish") else shop.group("victim")
    failing = Failing(real, step, moment, Killed())
    victim = shop.open("victim", **{"files" if step in ("write", "publish") else "group": failing})
    with pytest.raises(Killed):
        shop.work(victim, lambda: False)
    shop.work(shop.open("heir"), shop.done)
    assert sorted(row["event_id"] for row in shop.rows()) == added


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_an_answer_that_was_lost_is_asked_for_again(shop: Shop, step: str, moment: str) -> None:
    added = shop.add(10)
    real: Any = shop.files if step in ("write", "publish") else shop.group("one")
    error: BaseException = OSError("no space") if step in ("write", "publish") else RedisGone("gone")
    failing = Failing(real, step, moment, error)
    one = shop.open("one", **{"files" if step in ("write", "publish") else "group": failing})
    shop.work(one, shop.done)
    assert sorted(row["event_id"] for row in shop.rows()) == added


def test_a_slow_worker_drops_what_others_took_over(shop: Shop) -> None:
    added = shop.add(6)
    slow = shop.open("slow", Policy(cycle_s=0, flush_s=1000, claim_after_s=1000))
    shop.work(slow, lambda: len(slow._ready) == 6)
    shop.client.xclaim(keys.EVENTS, keys.FEATURES_GROUP, "dead", 0, added[:4])
    slow.close(10)
    assert len(shop.rows()) == 2
    shop.work(shop.open("heir"), shop.done)
    assert Counter(row["event_id"] for row in shop.rows()) == dict.fromkeys(added, 1)
    assert shop.value("cascade_lost_to_others_total") == 4


def test_a_file_that_vanished_is_written_anew(shop: Shop) -> None:
    added = shop.add(3, days=1)
    failing = Failing(shop.files, "publish", "before", Killed())
    with pytest.raises(Killed):
        shop.work(shop.open("victim", files=failing), lambda: False)
    [temporary] = (shop.root / "interactions").glob("date=*/.live-*")
    temporary.unlink()
    shop.work(shop.open("heir"), shop.done)
    assert sorted(row["event_id"] for row in shop.rows()) == added


def test_names_that_are_no_live_files_are_left_alone(shop: Shop) -> None:
    added = shop.add(1)
    group = shop.group("stranger")
    group.ensure()
    group.read(1, 0)
    group.take(added, "../outside.parquet")
    one = shop.open("one")
    time.sleep(0.15)
    one.cycle()
    assert group.is_committing("../outside.parquet")
    assert not list(shop.root.parent.glob("outside*"))


def test_entries_wait_while_features_cannot_be_pushed(shop: Shop) -> None:
    added = shop.add(3)
    one = shop.open("one")
    shop.online.error = RedisGone("gone")
    with pytest.raises(RedisGone):
        one.cycle()
    assert shop.rows() == []
    shop.online.error = None
    shop.work(one, shop.done)
    assert sorted(row["event_id"] for row in shop.rows()) == added


POISON: list[tuple[dict[str, str], str]] = [
    ({"nonsense": "1"}, "'user_id' is missing"),
    ({**Event("u", "i0", 1, "click").fields(), "timestamp": "noon"}, "invalid literal"),
    ({**Event("u", "i0", 1, "click").fields(), "timestamp": "-5"}, "greater than or equal to 0"),
    (Event("u\x00", "i0", 1, "click").fields(), "pattern"),
    (Event("u", "sold-out", 1, "click").fields(), "unknown item 'sold-out'"),
    (Event("u", "i0", 1, "stare").fields(), "unknown event type 'stare'"),
    (Event("u", "i0", 1, "click", "watch").fields(), "unknown device 'watch'"),
]


def test_poison_is_tried_and_buried_and_the_batch_goes_on(shop: Shop) -> None:
    added = shop.add(2)
    for fields, _ in POISON:
        shop.client.xadd(keys.EVENTS, fields)  # type: ignore[arg-type]
    added += shop.add(2)
    shop.work(shop.open("one"), shop.done)
    assert sorted(row["event_id"] for row in shop.rows()) == sorted(added)
    letters = [letter for _, letter in shop.client.xrange(keys.DEAD_LETTERS)]
    assert all(letter[b"tries"] == b"3" for letter in letters)
    reasons = sorted(letter[b"reason"].decode() for letter in letters)
    assert len(reasons) == len(POISON)
    assert all(any(expected in reason for reason in reasons) for _, expected in POISON), reasons
    assert shop.value("cascade_dead_letters_total") == len(POISON)
    assert shop.value("cascade_failed_tries_total") == 3 * len(POISON)


def test_an_item_that_comes_into_the_catalog_in_time_is_no_poison(shop: Shop) -> None:
    shop.client.xadd(keys.EVENTS, Event("u", "new", 1, "click").fields())
    one = shop.open("one")
    one.cycle()
    shop.catalog["new"] = "c0"
    shop.work(one, shop.done)
    assert [row["item_id"] for row in shop.rows()] == ["new"]
    assert shop.client.xlen(keys.DEAD_LETTERS) == 0


def test_size_flushes_before_time_does(shop: Shop) -> None:
    shop.add(25, days=1)
    one = shop.open("one", Policy(cycle_s=0, flush_s=1000, flush_entries=10))
    shop.work(one, lambda: len(shop.rows()) == 20 and len(one._ready) == 5)
    files = list((shop.root / "interactions").glob("date=*/*.parquet"))
    assert [pq.read_metadata(file).num_rows for file in files] == [10, 10]
    one.close(10)
    assert len(shop.rows()) == 25, "an orderly end leaves nothing behind"
    assert shop.group("x").backlog().pending == 0


def test_no_more_is_read_than_may_be_held(shop: Shop) -> None:
    shop.add(30)
    one = shop.open("one", Policy(cycle_s=0, flush_s=1000, most_held=10, read_count=4))
    for _ in range(6):
        one.cycle()
    assert shop.group("x").backlog().pending == 10


def test_a_backlog_waits_in_the_stream_and_not_in_memory(shop: Shop) -> None:
    shop.add(60)
    one = shop.open("one", Policy(cycle_s=0, flush_s=1000, flush_entries=10, read_count=50))
    one.cycle()
    assert shop.group("x").backlog().pending <= 20
    shop.work(one, lambda: len(shop.rows()) == 60)


def test_what_waits_for_its_time_is_not_taken_over(shop: Shop) -> None:
    added = shop.add(4)
    slow = shop.open("slow", Policy(cycle_s=0, flush_s=1000, claim_after_s=1.0))
    other = shop.open("other", Policy(cycle_s=0, flush_s=1000, claim_after_s=1.0))
    started = time.monotonic()
    while time.monotonic() - started < 2.5:
        slow.cycle()
        other.cycle()
    assert slow._held == set(added)
    assert other._held == set()


def test_the_loop_outlives_errors_and_says_so(shop: Shop) -> None:
    added = shop.add(1)
    one = shop.open("one")
    shop.online.error = RuntimeError("what nobody thought of")
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: one.trouble == "RuntimeError: what nobody thought of")
        shop.online.error = None
        wait_for(lambda: one.trouble is None and len(shop.rows()) == 1)
    finally:
        stop.set()
        thread.join()
    assert [row["event_id"] for row in shop.rows()] == added


def impression(request: str, items: Sequence[str] = ("i0", "i1")) -> dict[str, str]:
    payload = {
        "request_id": request,
        "user_id": "u",
        "timestamp": MONDAY,
        "device_type": None,
        "items": [
            {"item_id": item, "position": position, "score": None if position else 0.5, "propensity": 1.0}
            for position, item in enumerate(items)
        ],
        "versions": {"ranker": "v1"},
        "tracks": {"ranker": "stable"},
        "assigned": {"ranker": "canary"},
    }
    return {"payload": json.dumps(payload)}


def test_lists_wait_for_their_clicks(shop: Shop) -> None:
    shop.kind = Impressions(shop.client, attribution_s=0.3)
    shop.client.xadd(keys.IMPRESSIONS, impression("r1"))
    one = shop.open("one")
    one.cycle()
    assert shop.rows() == []
    shop.client.sadd(keys.clicked("r1"), "i1")
    shop.client.sadd(keys.clicked("r2"), "i0")
    shop.work(one, shop.done)
    rows = shop.rows()
    assert [(row["item_id"], row["position"], row["clicked"], row["score"]) for row in rows] == [
        ("i0", 0, False, 0.5),
        ("i1", 1, True, None),
    ]
    assert {(row["versions"], row["track"]) for row in rows} == {('{"ranker": "v1"}', '{"ranker": "stable"}')}
    assert {row["assigned"] for row in rows} == {'{"ranker": "canary"}'}


@pytest.mark.parametrize("off_s", [-3600.0, 3600.0])
def test_lists_wait_as_long_whatever_the_clock_of_the_machine_says(
    shop: Shop, off_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.kind = Impressions(shop.client, attribution_s=0.5)
    shop.client.xadd(keys.IMPRESSIONS, impression("r1"))
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + off_s)
    one, began = shop.open("one"), time.monotonic()
    while time.monotonic() - began < 0.3:
        one.cycle()
    assert shop.rows() == []
    shop.client.sadd(keys.clicked("r1"), "i1")
    shop.work(one, lambda: bool(shop.rows()))
    assert [row["clicked"] for row in shop.rows()] == [False, True]


def test_poisoned_lists_are_buried(shop: Shop) -> None:
    shop.kind = Impressions(shop.client, attribution_s=0)
    for fields in ({"payload": "{"}, {"other": "1"}, impression("r", ["sold-out"]), impression("r" * 200)):
        shop.client.xadd(keys.IMPRESSIONS, fields)  # type: ignore[arg-type]
    shop.client.xadd(keys.IMPRESSIONS, impression("good"))
    shop.work(shop.open("one"), shop.done)
    assert {row["request_id"] for row in shop.rows()} == {"good"}
    assert shop.client.xlen(keys.DEAD_LETTERS) == 4


def test_offline_pushes_are_gathered_and_survive_a_failure(shop: Shop) -> None:
    pushes = OfflinePushes(shop.online, shop.telemetry, 0.01, 9)  # type: ignore[arg-type]
    shop.online.error = RuntimeError("disk")
    pushes.add({"a": Activity("c0", 1), "b": Activity("c0", 1)})
    stop = threading.Event()
    thread = threading.Thread(target=pushes.run, args=(stop,))
    thread.start()
    failures = lambda: shop.metrics.registry.get_sample_value("cascade_offline_push_failures_total")  # noqa: E731
    wait_for(lambda: bool(failures()))
    pushes.add({"b": Activity("c1", 2)})
    shop.online.error = None
    wait_for(lambda: bool(shop.online.offline))
    stop.set()
    thread.join()
    assert {user: seen for push in shop.online.offline for user, seen in push.items()} == {
        "a": Activity("c0", 1),
        "b": Activity("c1", 2),
    }


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)
