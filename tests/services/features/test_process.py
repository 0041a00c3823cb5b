"""The worker in a process of its own, over real Redis and Feast."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import redis

from cascade.api.common import UserFeatures
from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.interactions import Event, Interactions
from cascade.online.server import free_port
from cascade.online.user_features import FeastUserFeatures

NOON = 1_767_614_400


async def record(url: str, events: list[Event]) -> None:
    client = connect(url)
    for event in events:
        await Interactions(client).record(event)
    await client.aclose()


def test_clicks_become_features_and_rows(redis_url: str, live_shop: Any) -> None:
    port = free_port()
    environment = live_shop.environment(redis_url, port=port, flush_s=0.1, attribution_s=0, offline_push_s=0.2)
    process = subprocess.Popen(
        [sys.executable, "-m", "services.features"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            wait_for(lambda: process.poll() is None and answers(http) == 200)
            clicks = [Event("new", f"i{number}", NOON + number, "click", "mobile", "r1") for number in (0, 3, 6)]
            asyncio.run(record(redis_url, [*clicks, Event("new", "i1", NOON + 9, "click")]))
            wait_for(lambda: len(live_shop.live()) == 4)
            read = partial(features_of, live_shop.registry, redis_url, "new")
            found = asyncio.run(read())
            assert found is not None, "a user whom Feast has no profile of"
            assert (found.age, found.gender, found.top_category) == (None, None, "c0")
            asyncio.run(record(redis_url, [Event("new", "i0", NOON + 10, "not_interested")]))
            wait_for(lambda: asyncio.run(read()).top_category == "c1")  # type: ignore[union-attr]
            metrics = http.get("/metrics").text
            assert 'cascade_feature_lag_seconds_bucket{le="0.5"}' in metrics
            assert 'cascade_stream_entries_total{stream="cascade:events"} 5.0' in metrics
            assert http.get("/readyz").json()["versions"].keys() == {"stable"}
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGTERM)
    lines = output.decode().splitlines()
    assert all(line.startswith("{") for line in lines), output.decode()
    assert len(live_shop.live()) == 5
    with redis.Redis.from_url(redis_url) as client:
        assert client.xinfo_consumers(keys.EVENTS, keys.FEATURES_GROUP) == [], "it left in order"
        assert client.smembers(keys.clicked("r1")) == {b"i0", b"i3", b"i6"}


async def features_of(registry: Path, redis_url: str, user_id: str) -> UserFeatures | None:
    features = FeastUserFeatures(registry, redis_url, timeout_s=5)
    try:
        return await features.get(user_id)
    finally:
        await features.close()


def answers(http: httpx.Client) -> int | None:
    try:
        return http.get("/readyz").status_code
    except httpx.TransportError:
        return None


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)
