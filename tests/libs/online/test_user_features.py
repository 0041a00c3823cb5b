"""What a request reads is what Feast itself would give it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from cascade.api.common import MAX_RECENT
from cascade.features.spec import RECENT_LENGTH
from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import FeatureStoreNotReady, OnlineStoreDown
from cascade.online.feast_config import ACTIVITY_VIEW, ENTITY, ONLINE_FEATURES, PROFILE_VIEW, feature_store
from cascade.online.interactions import Event, Interactions
from cascade.online.user_features import FeastUserFeatures

USERS = ["u", "with / and é and 漢", "x" * 128, "no age", "no gender", "nothing known"]


async def test_as_feast_reads_it(redis_url: str, feast_registry: Path) -> None:
    store = feature_store(feast_registry, redis_url)
    now = pd.Series([datetime(2026, 1, 5, tzinfo=UTC)] * len(USERS), dtype="datetime64[us, UTC]")
    profiles = pd.DataFrame(
        {
            ENTITY: USERS,
            "age": pd.Series([20.0, 33.5, 0.0, None, 41.0, None], dtype="float64"),
            "gender": ["f", "m", "", "x", None, None],
            "event_timestamp": now,
        }
    )
    store.write_to_online_store(PROFILE_VIEW, profiles)
    activity = pd.DataFrame(
        {ENTITY: USERS[:4], "top_category": ["shoes", "hüte", None, ""], "event_timestamp": now[:4]}
    )
    store.write_to_online_store(ACTIVITY_VIEW, activity)
    features = FeastUserFeatures(feast_registry, redis_url, timeout_s=5)
    try:
        for user in [*USERS, "never met"]:
            told = store.get_online_features(list(ONLINE_FEATURES), [{ENTITY: user}]).to_dict()
            theirs = {name: told[name][0] for name in ("age", "gender", "top_category")}
            ours = await features.get(user)
            if all(value is None for value in theirs.values()):
                assert ours is None, user
            else:
                assert ours is not None, user
                assert ours.model_dump() == {"user_id": user, **theirs, "recent": []}
    finally:
        await features.close()


async def test_an_interaction_is_read_by_the_next_request(redis_url: str, feast_registry: Path) -> None:
    """Newest first, at most as many as a tower reads; of a user whom Feast does not know as well."""
    features, client = FeastUserFeatures(feast_registry, redis_url, timeout_s=5), connect(redis_url)
    try:
        assert await features.get("new") is None
        for n in range(keys.RECENT_MAX + 3):
            await Interactions(client).record(Event("new", f"i|{n}", 100 + n, "click"))
            found = await features.get("new")
            assert found is not None
            assert found.recent[0] == f"{100 + n}|click|i|{n}"
        assert len(found.recent) == keys.RECENT_MAX == RECENT_LENGTH == MAX_RECENT
        assert (found.age, found.gender, found.top_category) == (None, None, None)
    finally:
        await features.close()
        await client.aclose()


def test_a_service_reads_them_without_feast() -> None:
    """Importing Feast takes seconds; the gateway's extra does not hold it."""
    program = "import sys, services.gateway.app; print({'feast', 'pandas', 'google.protobuf'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "set()"


async def test_without_a_registry_or_a_server(tmp_path: Path, feast_registry: Path) -> None:
    unbuilt = FeastUserFeatures(tmp_path / "none.db", "redis://127.0.0.1:1/0")
    with pytest.raises(FeatureStoreNotReady, match=r"none\.db"):
        await unbuilt.get("u")
    alone = FeastUserFeatures(feast_registry, "redis://127.0.0.1:1/0")
    with pytest.raises(OnlineStoreDown):
        await alone.get("u")
    await unbuilt.close()
    await alone.close()
