"""Daily partitions: one a day of the shop's interactions."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from cascade.settings import Settings
from orchestration.workspace import known_days


def shop_days(settings: Settings) -> dg.DailyPartitionsDefinition:
    """From the shop's first day to its last known one."""
    days = known_days(settings)
    return dg.DailyPartitionsDefinition(
        start_date=days[0].isoformat(), end_date=(days[-1] + timedelta(days=1)).isoformat()
    )
