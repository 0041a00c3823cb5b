"""The base's days are fixed when it is built; what comes after is the daily loop's."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.data.contract import Dataset
from cascade.data.split import TooFewDays
from cascade.settings import Settings
from orchestration.base import (
    base_of,
    base_of_all_days,
    complete_days,
    days_to_learn,
    fresh_base,
    record_base,
    recorded_base,
)
from orchestration.partitions import fine_tuning_days
from orchestration.provenance import Provenance
from orchestration.workspace import known_days

FIRST = date(2026, 1, 5)
LONG_AFTER = datetime(2026, 6, 1, tzinfo=UTC)


def write_day(shop: Path, day: date, name: str = "part-0") -> None:
    path = shop / "interactions" / f"date={day}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    second = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    row = {"user_id": ["u"], "item_id": ["i"], "timestamp": [second], "device_type": ["mobile"], "event_type": ["view"]}
    pq.write_table(pa.table(row), path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Six days of its own."""
    root = tmp_path / "shop"
    root.mkdir()
    pq.write_table(pa.table({"user_id": ["u"]}), root / "users.parquet")
    pq.write_table(pa.table({"item_id": ["i"], "category_l1": ["c"]}), root / "items.parquet")
    for n in range(6):
        write_day(root, FIRST + timedelta(days=n))
    return root


@pytest.fixture
def own(settings: Settings, shop: Path) -> Settings:
    return settings.model_copy(update={"shop": shop})


def test_days_of_live_traffic_alone_change_nothing_of_the_base(own: Settings, shop: Path) -> None:
    before, print_before = base_of(own), Dataset(shop).fingerprint()

    write_day(shop, FIRST + timedelta(days=6), "live-1")
    write_day(shop, FIRST, "live-1")

    assert base_of(own) == before
    assert Dataset(shop).fingerprint() == print_before
    assert days_to_learn(own, LONG_AFTER)[-1] == FIRST + timedelta(days=6)


def test_a_recorded_base_stays_when_the_shop_brings_another_day(own: Settings, shop: Path) -> None:
    base = fresh_base(own)
    record_base(own, base)
    digest_before = Provenance(_spec(), own).digest(_spec()[0].key)

    write_day(shop, FIRST + timedelta(days=6))

    assert recorded_base(own) == base
    assert known_days(own) == base.days
    assert Provenance(_spec(), own).digest(_spec()[0].key) == digest_before
    assert FIRST + timedelta(days=6) in days_to_learn(own, LONG_AFTER)


def test_a_catalog_that_gained_items_trains_nothing_anew_and_changed_users_do(own: Settings, shop: Path) -> None:
    record_base(own, fresh_base(own))
    digest_before = Provenance(_spec(), own).digest(_spec()[0].key)

    pq.write_table(pa.table({"item_id": ["i", "j"], "category_l1": ["c", "c"]}), shop / "items.parquet")
    assert Provenance(_spec(), own).digest(_spec()[0].key) == digest_before

    pq.write_table(pa.table({"user_id": ["u", "v"]}), shop / "users.parquet")
    assert Provenance(_spec(), own).digest(_spec()[0].key) != digest_before


def test_a_record_of_other_settings_or_of_days_that_are_gone_is_not_taken(own: Settings, shop: Path) -> None:
    record_base(own, fresh_base(own))

    assert recorded_base(own.model_copy(update={"train_share": 0.2})) is None
    shutil.rmtree(shop / "interactions" / f"date={FIRST}")
    assert recorded_base(own) is None


def test_a_damaged_record_is_not_taken(own: Settings) -> None:
    record_base(own, fresh_base(own))
    path = own.state_dir / "base.json"
    path.write_text(path.read_text()[:30])

    assert recorded_base(own) is None


def test_a_retrain_takes_all_complete_days_and_evaluates_on_the_last(own: Settings, shop: Path) -> None:
    live = FIRST + timedelta(days=6)
    write_day(shop, live, "live-1")

    base = base_of_all_days(own, LONG_AFTER)
    record_base(own, base)

    assert base.split.evaluate == [live]
    assert len(base.split.train) == 6
    assert base_of(own) == base
    assert days_to_learn(own, LONG_AFTER) == []
    with pytest.raises(TooFewDays, match="7 complete days"):
        base_of_all_days(own.model_copy(update={"retrain_evaluation_days": 7}), LONG_AFTER)


def test_a_day_that_goes_on_is_not_complete(own: Settings) -> None:
    days = [FIRST, FIRST + timedelta(days=1)]
    ends = datetime(2026, 1, 7, tzinfo=UTC)

    assert complete_days(days, ends + timedelta(minutes=29), 30) == days[:1]
    assert complete_days(days, ends + timedelta(minutes=30), 30) == days
    assert complete_days([], ends, 30) == []


@given(st.integers(0, 400), st.integers(0, 12))
def test_every_day_with_data_has_its_partition_and_old_gaps_have_none(today_after: int, late: int) -> None:
    settings = Settings(_env_file=None, state_dir=Path("/nonexistent"), shop_size="tiny")
    today = FIRST + timedelta(days=today_after)

    keys = fine_tuning_days(settings, today).get_partition_keys(
        current_time=datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    )

    base = base_of(settings)
    wanted = [day.isoformat() for day in known_days(settings) if day > base.last]
    assert set(wanted) <= set(keys)
    assert keys == sorted(keys)
    assert keys[0] == wanted[0]
    assert len(keys) <= len(wanted) + 15
    if today_after > 20:
        assert (today - timedelta(days=1)).isoformat() in keys
        assert today.isoformat() not in keys


def _spec() -> list:
    import dagster as dg

    @dg.asset(code_version="1")
    def catalog() -> None: ...

    return [catalog]
