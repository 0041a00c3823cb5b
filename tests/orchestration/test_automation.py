"""Sensors and schedules ask for each complete day once, in order; nothing runs before it is switched on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.settings import Settings
from orchestration.base import base_of
from orchestration.graph import create_definitions
from orchestration.jobs import FINE_TUNING_JOB

FIRST = date(2026, 1, 5)


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """A shop of eight days long past, of which some follow the base."""
    root = tmp_path / "shop"
    for n in range(8):
        day = FIRST + timedelta(days=n)
        path = root / "interactions" / f"date={day}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        second = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        pq.write_table(pa.table({"user_id": ["u"], "timestamp": [second]}), path)
    pq.write_table(pa.table({"user_id": ["u"]}), root / "users.parquet")
    pq.write_table(pa.table({"item_id": ["i"], "category_l1": ["c"]}), root / "items.parquet")
    return settings.model_copy(update={"shop": root})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def tick(own: Settings, instance: dg.DagsterInstance, cursor: str | None) -> tuple[object, str | None]:
    definitions = create_definitions(own)
    context = dg.build_sensor_context(instance, cursor=cursor, definitions=definitions)
    result = definitions.resolve_sensor_def("new_day")(context)
    return result, context.cursor


def test_days_are_asked_for_one_at_a_time_in_order(own: Settings, instance: dg.DagsterInstance) -> None:
    wanted = [day for day in base_of(own).days if day > base_of(own).last]
    cursor, asked = None, []
    for _ in wanted:
        result, cursor = tick(own, instance, cursor)
        assert isinstance(result, dg.RunRequest)
        asked.append((result.partition_key, result.run_key))

    assert len(wanted) > 1
    assert [day for day, _ in asked] == [day.isoformat() for day in wanted]
    assert len({key for _, key in asked}) == len(asked)
    assert isinstance(tick(own, instance, cursor)[0], dg.SkipReason)


def test_the_next_day_waits_until_the_one_before_is_learned(own: Settings, instance: dg.DagsterInstance) -> None:
    _, cursor = tick(own, instance, None)
    job = create_definitions(own).resolve_job_def(FINE_TUNING_JOB)
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)

    result, kept = tick(own, instance, cursor)

    assert isinstance(result, dg.SkipReason)
    assert kept == cursor
    instance.report_run_failed(run)
    assert isinstance(tick(own, instance, cursor)[0], dg.RunRequest)


def test_the_night_takes_the_newest_complete_day(own: Settings, instance: dg.DagsterInstance) -> None:
    schedule = create_definitions(own).resolve_schedule_def("every_night")

    result = schedule(dg.build_schedule_context(instance, scheduled_execution_time=datetime(2026, 6, 1, tzinfo=UTC)))

    assert isinstance(result, dg.RunRequest)
    assert result.partition_key == (FIRST + timedelta(days=7)).isoformat()


def test_an_hour_is_looked_at_once_however_late_its_run_starts(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    schedule = create_definitions(settings).resolve_schedule_def("every_hour")

    def asked(minute: int) -> dg.RunRequest:
        moment = datetime(2026, 6, 1, 9, minute, 7, tzinfo=UTC)
        result = schedule(dg.build_schedule_context(instance, scheduled_execution_time=moment))
        assert isinstance(result, dg.RunRequest)
        return result

    assert asked(10).run_key == asked(59).run_key
    assert asked(10).run_config["ops"]["feature_drift"]["config"] == {"end": "2026-06-01T09:00:00+00:00"}


def test_nothing_starts_unasked(settings: Settings) -> None:
    definitions = create_definitions(settings)

    for name in ("new_day", "catalog_gained_items"):
        assert definitions.resolve_sensor_def(name).default_status == dg.DefaultSensorStatus.STOPPED
    for name in ("every_night", "every_sunday", "every_hour"):
        assert definitions.resolve_schedule_def(name).default_status == dg.DefaultScheduleStatus.STOPPED


def test_every_asset_says_what_it_is(settings: Settings) -> None:
    from orchestration.graph import all_assets

    for asset in all_assets(settings):
        for spec in asset.specs:
            assert spec.description, spec.key
            assert spec.group_name in {
                "raw", "features", "transforms", "embeddings", "training", "evaluation", "online", "release",
                "fine_tuning",
            }, spec.key  # fmt: skip
            assert spec.code_version, spec.key
            assert spec.kinds, spec.key
