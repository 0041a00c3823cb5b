"""What starts by itself once it is switched on in the UI: the daily loop, new items, the weekly retrain, drift.

All are stopped at first: `cascade up` trains and serves, and nobody's laptop starts a fine-tuning at night unasked.
On a cluster (`automation`) schedules and new items are on; `new_day` stays off: it asks for the days of `every_night`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from cascade.settings import Settings
from orchestration.assets.drift import DriftWindow, end_of, feature_drift
from orchestration.base import base_of, days_to_learn
from orchestration.jobs import full_retrain
from orchestration.retention_jobs import retain_data

EVERY_HOUR = "10 * * * *"
"""Ten minutes past: lists wait a minute for their clicks, and seconds to be written."""
STOPPED = dg.DefaultSensorStatus.STOPPED
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def sensors(
    settings: Settings, fine_tuning: UnresolvedAssetJobDefinition, new_items: UnresolvedAssetJobDefinition
) -> list[dg.SensorDefinition]:
    """A complete day has arrived; the catalog has changed."""

    @dg.sensor(job=fine_tuning, minimum_interval_seconds=60, default_status=STOPPED)
    def new_day(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Asks for the earliest complete day after the full training that was not asked for, one at a time."""
        # the digest of the days tells a full retrain: its days are asked for again
        base = base_of(settings)
        asked = context.cursor.split() if context.cursor else []
        after = date.fromisoformat(asked[1]) if len(asked) == 2 and asked[0] == _name(settings) else base.last
        request = _next_day(settings, after, context.instance, fine_tuning.name)
        if isinstance(request, dg.RunRequest):
            context.update_cursor(f"{_name(settings)} {request.partition_key}")
        return request

    new_items_status = dg.DefaultSensorStatus.RUNNING if settings.automation else STOPPED

    @dg.sensor(job=new_items, minimum_interval_seconds=60, default_status=new_items_status)
    def catalog_gained_items(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        """Asks for new versions with today's catalog when items.parquet is another one than before."""
        from orchestration.assets.new_items import catalog_changed
        from orchestration.graph import all_assets
        from orchestration.provenance import Provenance
        from orchestration.workspace import Workspace

        if not settings.dataset_dir.is_dir():
            yield dg.SkipReason("there is no shop yet")
            return
        # digests anew: a full retrain in another process changes them
        workspace = Workspace(settings, Provenance(all_assets(settings), settings))
        if not catalog_changed(workspace):
            yield dg.SkipReason("items.parquet is the one that index and item table were made for")
            return
        yield dg.RunRequest(run_key=f"{_name(settings)} {workspace.dataset.table_digest('items.parquet')}")

    return [new_day, catalog_gained_items]


def schedules(
    settings: Settings, fine_tuning: UnresolvedAssetJobDefinition, drift: UnresolvedAssetJobDefinition
) -> list[dg.ScheduleDefinition]:
    """Every hour the one before; every night the newest complete day; every Sunday all; every morning old data goes."""
    status = dg.DefaultScheduleStatus.RUNNING if settings.automation else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        job=fine_tuning,
        cron_schedule="30 2 * * *",
        execution_timezone="UTC",
        default_status=status,
    )
    def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Yesterday, or whichever day is the newest complete one; a day is asked for once."""
        days = days_to_learn(settings)
        if not days:
            return dg.SkipReason(f"no complete day after {base_of(settings).last}")
        return dg.RunRequest(run_key=_run_key(settings, days[-1]), partition_key=days[-1].isoformat())

    every_sunday = dg.ScheduleDefinition(
        name="every_sunday",
        job=full_retrain,
        cron_schedule="0 4 * * 0",
        execution_timezone="UTC",
        default_status=status,
        description="rebuild everything from all complete days",
    )
    every_morning = dg.ScheduleDefinition(
        name="every_morning",
        job=retain_data,
        cron_schedule="30 5 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="remove what the settings say may be kept no longer",
    )

    @dg.schedule(job=drift, cron_schedule=EVERY_HOUR, execution_timezone="UTC", default_status=status)
    def every_hour(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        """What was served in the hour before; it is asked for once, and a late run still looks at the same one."""
        end = end_of("", context.scheduled_execution_time).isoformat()
        config = dg.RunConfig(ops={feature_drift.op.name: DriftWindow(end=end)})
        return dg.RunRequest(run_key=f"drift {end}", run_config=config)

    return [every_night, every_sunday, every_morning, every_hour]


def _next_day(settings: Settings, after: date, instance: dg.DagsterInstance, job: str) -> dg.RunRequest | dg.SkipReason:
    days = [day for day in days_to_learn(settings) if day > after]
    if not days:
        return dg.SkipReason(f"no complete day after {after}")
    if instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
        return dg.SkipReason("a day is being learned; the next one goes on from it")
    return dg.RunRequest(run_key=_run_key(settings, days[0]), partition_key=days[0].isoformat())


def _run_key(settings: Settings, day: date) -> str:
    return f"{_name(settings)} {day.isoformat()}"


def _name(settings: Settings) -> str:
    """Of the full training that days go on from."""
    base = base_of(settings)
    return base.retrained or f"{base.split.train[0]}..{base.last}"
