"""Live figures: differences of counters, quantiles of buckets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.online.click_through import Clicked
from cascade.online.errors import OnlineStoreDown
from cascade.online.stream_lag import Lag
from cascade.serving.metrics import LATENCY_BUCKETS_S, ServiceMetrics
from services.gateway.ports import StageDown
from services.gateway.storefront.live import Live, Outside, quantile
from services.gateway.telemetry import Telemetry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def outside(down: bool = False) -> Outside:
    async def lag() -> Lag:
        if down:
            raise OnlineStoreDown("no answer")
        return Lag(0.5, 2, 10)

    async def tracks() -> dict[str, Clicked]:
        if down:
            raise OnlineStoreDown("no answer")
        return {"stable": Clicked(10, 3)}

    return Outside(lag, tracks)


async def test_a_sample_tells_what_happened_since() -> None:
    metrics, clock = ServiceMetrics("gateway"), Clock()
    telemetry = Telemetry(metrics)
    live = Live(metrics.registry, outside(), clock)
    telemetry.stage("total", 0.9)  # before anybody looked
    assert await live.poll() == []

    for _ in range(20):
        metrics.request("/v1/recommendations", "POST", 200, 0.004)
        telemetry.stage("total", 0.004)
        telemetry.stage("ranker", 0.002)
    telemetry.degraded("ranker", StageDown("ranker", "down"))
    metrics.request("/v1/items", "GET", 200, 0.001)
    clock.now = 2.0
    (event,) = await live.poll()

    assert event.name == "sample"
    assert event.data["lists_per_s"] == 10
    assert event.data["requests_per_s"] == 10.5
    assert event.data["in_hand"] == pytest.approx(0.04)
    assert event.data["degraded"] == {"features": 0, "retrieval": 0, "filter": 0, "ranker": 0.05}
    assert 3 < event.data["stages"]["total"]["p50_ms"] <= 4
    assert event.data["stages"]["retrieval"] == {"p50_ms": None, "p99_ms": None}
    assert event.data["stream"] == {"seconds": 0.5, "waiting": 2, "length": 10}
    assert event.data["tracks"] == {"stable": {"lists": 10, "clicked": 3}}

    clock.now = 30.0  # what is older than the window no longer counts
    await live.poll()
    clock.now = 31.0
    (quiet,) = await live.poll()
    assert quiet.data["lists_per_s"] == 0
    assert quiet.data["degraded"]["ranker"] is None


async def test_without_redis_the_rest_is_told() -> None:
    clock = Clock()
    live = Live(ServiceMetrics("gateway").registry, outside(down=True), clock)
    await live.poll()
    clock.now = 1.0
    (event,) = await live.poll()
    assert (event.data["stream"], event.data["tracks"], event.data["requests_per_s"]) == (None, None, 0)


@settings(deadline=None)
@given(st.lists(st.floats(1e-5, 0.9), min_size=1, max_size=60), st.sampled_from([0.5, 0.99]))
def test_a_quantile_lies_in_its_bucket(seconds: list[float], share: float) -> None:
    bounds = [*LATENCY_BUCKETS_S, float("inf")]
    buckets = [(bound, float(sum(one <= bound for one in seconds))) for bound in bounds]
    found = quantile(buckets, share)
    true = float(np.quantile(seconds, share, method="inverted_cdf"))
    upper = next(bound for bound in bounds if true <= bound)
    lower = max([0.0, *(bound for bound in bounds if bound < upper)])
    assert found is not None
    assert lower <= found <= upper + 1e-12


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile([(1.0, 0.0), (float("inf"), 0.0)], 0.5) is None
    assert quantile([(1.0, 0.0), (float("inf"), 4.0)], 0.5) == 1.0
