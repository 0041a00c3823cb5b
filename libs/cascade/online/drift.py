"""The latest drift report: written by the pipeline, read by whoever exports it."""

from __future__ import annotations

from redis import Redis

from cascade.drift.report import DriftReport
from cascade.online import keys
from cascade.online.connection import store_errors


def write_drift(client: Redis, report: DriftReport) -> None:
    """Replace the report. Raises OnlineStoreDown."""
    with store_errors("writing the drift report"):
        client.set(keys.DRIFT, report.to_json())


def read_drift(client: Redis) -> DriftReport | None:
    """The report; None before the first, and where a newer release wrote one that this one cannot read.

    Raises OnlineStoreDown.
    """
    with store_errors("reading the drift report"):
        content = client.get(keys.DRIFT)
    if not isinstance(content, (str, bytes)):
        return None
    try:
        return DriftReport.from_json(content)
    except (ValueError, KeyError, TypeError):
        return None
