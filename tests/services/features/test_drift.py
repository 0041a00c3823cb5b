"""The drift report on the worker's metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cascade.drift.report import Drift, DriftReport
from cascade.online import keys
from cascade.online.drift import write_drift
from cascade.serving.metrics import ServiceMetrics
from services.features.drift import DriftGauges
from services.features.telemetry import Telemetry


def drift(feature: str, psi: float | None, state: str = "stable", visitors: int = 900) -> Drift:
    return Drift("ranker", feature, state, psi, 0.01, visitors, 400.0, True, (), (), ())  # type: ignore[arg-type]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_the_latest_window_alone_is_told(client: redis.Redis) -> None:
    metrics = ServiceMetrics("features")
    gauges = DriftGauges(client, Telemetry(metrics), 30)
    labels = {"model": "ranker", "feature": "age"}
    value = metrics.registry.get_sample_value

    gauges.look()
    assert value("cascade_feature_psi", labels) is None
    assert value("cascade_drift_window_end_seconds") == 0

    write_drift(client, DriftReport(0, 3600, 500, (drift("age", 0.31, "drifted"), drift("gone", 0.1))))
    gauges.look()
    assert value("cascade_feature_psi", labels) == 0.31
    assert value("cascade_feature_psi_judged", labels) == 1
    assert value("cascade_feature_psi_visitors", labels) == 900
    assert value("cascade_drift_window_end_seconds") == 3600

    write_drift(client, DriftReport(3600, 7200, 500, (drift("age", None, "too few", 0),)))
    gauges.look()
    assert value("cascade_feature_psi", labels) is None, "an index of an hour ago is not this hour's"
    assert value("cascade_feature_psi_judged", labels) == 0
    assert value("cascade_feature_psi_visitors", {**labels, "feature": "gone"}) is None


def test_a_store_that_is_down_is_asked_again(client: redis.Redis) -> None:
    metrics = ServiceMetrics("features")
    stop = threading.Event()
    with redis.Redis(port=1, retry=Retry(NoBackoff(), 0)) as nobody:
        gauges = DriftGauges(nobody, Telemetry(metrics), 0.01)
        thread = threading.Thread(target=gauges.run, args=(stop,))
        thread.start()
        try:
            write_drift(client, DriftReport(0, 3600, 500))
            assert thread.is_alive()
            gauges._redis = client
            for _ in range(1000):
                if metrics.registry.get_sample_value("cascade_drift_window_end_seconds"):
                    break
                stop.wait(0.01)
        finally:
            stop.set()
            thread.join()
    assert metrics.registry.get_sample_value("cascade_drift_window_end_seconds") == 3600
    assert client.exists(keys.DRIFT)
