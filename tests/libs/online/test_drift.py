from __future__ import annotations

import pytest
import redis

from cascade.drift.report import Drift, DriftReport
from cascade.online import keys
from cascade.online.drift import read_drift, write_drift
from cascade.online.errors import OnlineStoreDown

REPORT = DriftReport(
    0, 3600, 500, (Drift("ranker", "age", "stable", 0.01, 0.02, 900, 400.0, True, ("a", "b"), (0.5, 0.5), (0.4, 0.6)),)
)


def test_the_latest_report_is_read(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert read_drift(client) is None
        write_drift(client, DriftReport(0, 1, 1))
        write_drift(client, REPORT)

        assert read_drift(client) == REPORT


def test_what_a_newer_release_wrote_is_no_report(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for content in ("no JSON", "[]", '{"drifts": [], "notes": [], "new": 1}'):
            client.set(keys.DRIFT, content)
            assert read_drift(client) is None


def test_a_store_that_is_down_is_told() -> None:
    with redis.Redis(port=1) as client:
        with pytest.raises(OnlineStoreDown):
            read_drift(client)
        with pytest.raises(OnlineStoreDown):
            write_drift(client, REPORT)
