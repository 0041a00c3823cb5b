"""From recent items into Feast's stores."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import ibis
import pyarrow.parquet as pq
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.top_category import top_category_of
from cascade.online import keys
from cascade.online.activity import ACTIVITY_FILE, Activity, FeastActivity, activity_of
from cascade.online.errors import FeatureStoreNotReady
from cascade.online.interactions import RecentItem
from cascade.online.user_features import FeastUserFeatures

CATEGORY = {"a1": "a", "a2": "a", "b1": "b", "none": None}
NOON = 1_767_614_400

recent_items = st.lists(
    st.builds(
        RecentItem,
        st.integers(NOON - 100_000, NOON),
        st.sampled_from(["view", "click", "add_to_cart", "purchase", "not_interested"]),
        st.sampled_from(list(CATEGORY)),
    )
)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def push_recent(client: redis.Redis, user: str, items: Sequence[str], at: int = NOON) -> None:
    for number, item in enumerate(items):
        client.lpush(keys.recent(user), RecentItem(at + number, "click", item).encode())


@given(recent=recent_items)
def test_it_is_what_training_sees_right_after_the_newest_event(recent: list[RecentItem]) -> None:
    activity = activity_of(recent, CATEGORY.get)
    if not recent:
        assert activity is None
        return
    newest = max(item.timestamp for item in recent)
    events = [(CATEGORY[item.item_id], item.timestamp, item.event_type) for item in recent]
    assert activity == Activity(top_category_of(events, newest + 1), newest)


async def test_a_refresh_is_read_by_the_gateway(client: redis.Redis, redis_url: str, feast_registry: Path) -> None:
    activity, features = FeastActivity(feast_registry, redis_url), FeastUserFeatures(feast_registry, redis_url)
    push_recent(client, "u", ["a1", "b1", "a2"])
    pushed = activity.refresh(client, ["u", "forgotten"], CATEGORY.get)
    assert pushed == {"u": Activity("a", NOON + 2)}
    found = await features.get("u")
    assert found is not None
    assert (found.age, found.gender, found.top_category) == (None, None, "a")
    assert await features.get("forgotten") is None
    await features.close()


async def test_another_event_of_the_same_second_counts(
    client: redis.Redis, redis_url: str, feast_registry: Path
) -> None:
    """Feast by itself would keep what it has, since the new value is of the same moment."""
    activity, features = FeastActivity(feast_registry, redis_url), FeastUserFeatures(feast_registry, redis_url)
    for items, top in ((["a1"], "a"), (["b1", "b1"], "b"), (["a1", "a1"], "a")):
        for item in items:
            client.lpush(keys.recent("u"), RecentItem(NOON, "click", item).encode())
        activity.refresh(client, ["u"], CATEGORY.get)
        found = await features.get("u")
        assert found is not None
        assert found.top_category == top
    await features.close()


async def test_who_likes_nothing_any_more_has_no_top_category(
    client: redis.Redis, redis_url: str, feast_registry: Path
) -> None:
    """Feast's own push refuses a batch of nothing but nulls."""
    activity, features = FeastActivity(feast_registry, redis_url), FeastUserFeatures(feast_registry, redis_url)
    push_recent(client, "u", ["a1"])
    activity.refresh(client, ["u"], CATEGORY.get)
    client.lpush(keys.recent("u"), RecentItem(NOON + 1, "not_interested", "a1").encode())
    assert activity.refresh(client, ["u"], CATEGORY.get) == {"u": Activity(None, NOON + 1)}
    found = await features.get("u")
    assert found is not None
    assert (found.top_category, len(found.recent)) == (None, 2)
    await features.close()


async def test_whoever_pushes_looks_again(client: redis.Redis, redis_url: str, feast_registry: Path) -> None:
    """An event that comes in between reading and pushing is pushed too, though another worker pushed it before."""

    class Overtaken(FeastActivity):
        def push_online(self, activities: dict[str, Activity]) -> None:  # type: ignore[override]
            if activities["u"].top_category == "a":
                push_recent(client, "u", ["b1", "b1"], NOON + 10)
                other.refresh(client, ["u"], CATEGORY.get)
            super().push_online(activities)

    other = FeastActivity(feast_registry, redis_url)
    push_recent(client, "u", ["a1"])
    assert Overtaken(feast_registry, redis_url).refresh(client, ["u"], CATEGORY.get)["u"].top_category == "b"
    features = FeastUserFeatures(feast_registry, redis_url)
    found = await features.get("u")
    assert found is not None
    assert found.top_category == "b"
    await features.close()


def test_a_push_leaves_nothing_to_the_collector(redis_url: str, feast_registry: Path) -> None:
    """Which comes after so many objects, however much memory they hold."""
    activity = FeastActivity(feast_registry, redis_url)

    def push() -> int:
        activity.push_offline({"u": Activity("a", NOON)}, 1000)
        return sum(str(type(one).__module__).startswith("sqlglot.expressions") for one in gc.get_objects())

    push()  # imports, caches
    gc.disable()
    try:
        assert push() == push()
    finally:
        gc.enable()


def test_the_offline_file_grows_within_its_bound(redis_url: str, feast_registry: Path) -> None:
    activity = FeastActivity(feast_registry, redis_url)
    file = feast_registry.parent / "offline" / ACTIVITY_FILE
    file.write_bytes(b"half of a file")  # as a push that was killed leaves it
    for round_ in range(4):
        activity.push_offline({f"u{n}": Activity("a" if n else None, NOON + 10 * round_) for n in range(10)}, 25)
    # what Feast makes for a push must not stay in the process, which pushes for weeks
    assert ibis.get_backend().list_tables() == []
    rows = pq.read_table(file).to_pylist()
    # 10, 20, then down to half of 15 and 10 more, and 10 more would be 27
    assert len(rows) <= 25
    newest = max(row["event_timestamp"] for row in rows)
    assert sum(row["event_timestamp"] == newest for row in rows) == 10
    assert {row["top_category"] for row in rows if row["user_id"] == "u0"} == {None}


def test_before_the_build_there_is_nothing_to_push_to(tmp_path: Path, redis_url: str) -> None:
    with pytest.raises(FeatureStoreNotReady, match="build the online features"):
        FeastActivity(tmp_path / "registry.db", redis_url).warm_up()
