"""Daily partitions: those of the shop's own interactions, and those of the daily loop."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from cascade.settings import Settings
from orchestration.base import base_of, days_of
from orchestration.workspace import known_days

LATE_DAYS = 7
"""A day may arrive this long after it was, or after the last one there is, and finds its partition."""


def shop_days(settings: Settings) -> dg.DailyPartitionsDefinition:
    """From the shop's first day to its last known one."""
    days = known_days(settings)
    return dg.DailyPartitionsDefinition(
        start_date=days[0].isoformat(), end_date=(days[-1] + timedelta(days=1)).isoformat()
    )


def fine_tuning_days(settings: Settings, today: date | None = None) -> dg.DailyPartitionsDefinition:
    """From the first day after the base on, without an end: a new day has its partition as soon as it is over.

    Days long past of which there is nothing are left out, so that a shop of last year does not show hundreds of them.
    """
    today = today or datetime.now(UTC).date()
    base = base_of(settings)
    start = base.last + timedelta(days=1)
    present = {day for day in (*days_of(settings), *known_days(settings)) if day >= start}
    last = max(present, default=base.last)
    late = {last + timedelta(days=n) for n in range(1, LATE_DAYS + 1)}
    past = (start + timedelta(days=n) for n in range((today - timedelta(days=LATE_DAYS) - start).days))
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(),
        # partitions end with yesterday; a shop whose days lie ahead of the clock has its own all the same
        end_offset=max(0, (last - today).days + 1),
        exclusions=[datetime.combine(day, time(), UTC) for day in past if day not in present and day not in late]
        or None,
    )
