"""What is too old goes, and nothing else."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.online.activity import ACTIVITY_FILE
from cascade.privacy.retention import retain
from cascade.settings import Settings

DAYS = [dt.date(2026, 1, day) for day in range(5, 11)]


@pytest.fixture
def shop(tmp_path):
    table = pa.table(
        {
            "user_id": ["u"], "item_id": ["i"], "timestamp": pa.array([1_767_600_000], pa.int64()),
            "device_type": ["mobile"], "event_type": ["click"],
        }
    )  # fmt: skip
    for name in ("interactions", "impressions"):
        for day in DAYS:
            folder = tmp_path / "shop" / name / f"date={day}"
            folder.mkdir(parents=True)
            pq.write_table(table, folder / "part-0.parquet")
    moments = [dt.datetime(2026, 1, day.day, 12, tzinfo=dt.UTC) for day in DAYS]
    offline = tmp_path / "feast" / "offline"
    offline.mkdir(parents=True)
    features = {"user_id": [f"u{n}" for n in range(6)], "top_category": ["c"] * 6}
    stamps = pa.array(moments, pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({**features, "event_timestamp": stamps}), offline / ACTIVITY_FILE)
    return tmp_path


def settings(root, **keep):
    return Settings(_env_file=None, state_dir=root, **keep)


def days(root, name):
    return sorted(dt.date.fromisoformat(folder.name[5:]) for folder in (root / "shop" / name).iterdir())


def test_without_settings_all_is_kept(shop):
    assert retain(settings(shop)) == {"interactions": 0, "impressions": 0, "feature_rows": 0}
    assert days(shop, "interactions") == DAYS


def test_each_has_its_own_age_counted_from_the_shops_last_day(shop):
    removed = retain(
        settings(shop, keep_interactions_days=4, keep_impressions_days=2, keep_features_days=3), dt.date(2030, 1, 1)
    )
    assert removed == {"interactions": 2, "impressions": 4, "feature_rows": 3}
    assert days(shop, "interactions") == DAYS[2:]
    assert days(shop, "impressions") == DAYS[4:]
    left = pq.read_table(shop / "feast" / "offline" / ACTIVITY_FILE)
    assert left["user_id"].to_pylist() == ["u3", "u4", "u5"]


def test_a_removal_that_was_cut_short_is_finished(shop):
    folder = shop / "shop" / "interactions" / "date=2026-01-05"
    folder.rename(folder.with_name(".date=2026-01-05.gone"))
    (shop / "shop" / "interactions" / "date=2026-01-05").mkdir()
    assert retain(settings(shop, keep_interactions_days=5))["interactions"] == 1
    assert min(path.name for path in (shop / "shop" / "interactions").iterdir()) == "date=2026-01-06"
