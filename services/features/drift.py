"""The pipeline's latest drift report on /metrics: Dagster's runs end, and whoever scrapes would find none of them.

Every worker tells the same, so the highest of them is asked for.
"""

from __future__ import annotations

import threading

from redis import Redis

from cascade.drift.report import DriftReport
from cascade.online.drift import read_drift
from cascade.online.errors import OnlineStoreDown
from cascade.serving.logging import get_logger
from services.features.telemetry import Telemetry

log = get_logger(__name__)


class DriftGauges:
    """Reads the report now and then. `run` in a thread of its own."""

    def __init__(self, redis: Redis, telemetry: Telemetry, poll_s: float) -> None:
        self._redis = redis
        self._telemetry = telemetry
        self._poll_s = poll_s
        self._told: DriftReport | None = None

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while True:
            try:
                self.look()
            except OnlineStoreDown as error:  # the streams' threads tell readiness that Redis is gone
                log.warning("the drift report is not read; tried again", error=str(error))
            if stop.wait(self._poll_s):
                return

    def look(self) -> None:
        """Read once, and show what is new. Raises OnlineStoreDown."""
        report = read_drift(self._redis)
        if report is None or report == self._told:
            return
        self._told = report
        telemetry = self._telemetry
        for gauge in (telemetry.psi, telemetry.psi_judged, telemetry.psi_visitors):
            gauge.clear()
        for one in report.drifts:
            telemetry.psi_visitors.labels(one.model, one.feature).set(one.visitors)
            telemetry.psi_judged.labels(one.model, one.feature).set(one.judged)
            if one.psi is not None:
                telemetry.psi.labels(one.model, one.feature).set(one.psi)
        telemetry.drift_end.set(report.end)
