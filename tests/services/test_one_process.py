"""All services in one process answer as four processes do."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import torch

from cascade.store import ModelStore, canary
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.store.release import promote, rollback
from services.filter.settings import FilterSettings
from services.gateway.settings import GatewaySettings
from services.one_process import AllSettings, create_app
from services.ranker.settings import RankerSettings
from services.retrieval.settings import RetrievalSettings
from tests.services.small_shop import IDS, SERVICES, environment, start, wait_until_ready, write_models

TIMES = {"morning": 1_768_206_600, "night": 1_768_257_000}
VOLATILE = ("request_id", "timings")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small untrained bundles of all services, each alias `stable`."""
    root = tmp_path_factory.mktemp("models")
    write_models(root)
    return root


def requests() -> list[tuple[str, str, dict | None]]:
    """Lists for many users and contexts, before and after a click, and the rest of the API."""
    ask = [
        {"user_id": user, "k": k, "device_type": device, "timestamp": when}
        for user, k in (("u1", 10), ("u2", 1), ("nobody", 60))
        for device in ("mobile", "desktop", None)
        for when in TIMES.values()
    ]
    clicks = [{"user_id": "u1", "item_id": one, "timestamp": TIMES["morning"]} for one in IDS[:55]]
    return [
        *(("POST", "/v1/recommendations", body) for body in ask),
        *(("POST", "/v1/interactions", body) for body in clicks),
        *(("POST", "/v1/recommendations", body) for body in ask),
        ("POST", "/v1/recommendations", {"user_id": "u2", "timestamp": 1, "diversity": True, "seed": 5}),
        ("POST", "/v1/recommendations", {"user_id": "u2", "k": 1000}),
        ("POST", "/v1/interactions", {"user_id": "u1", "item_id": "no such item"}),
        ("GET", "/v1/items?q=item&limit=3", None),
        ("GET", "/v1/items/i%2F3", None),
        ("GET", "/v1/items/i%2F3/similar?k=3", None),
        ("GET", "/v1/popular?k=3", None),
        ("DELETE", "/v1/users/u1/history", None),
        ("POST", "/v1/recommendations", ask[0]),
    ]


async def answers(client: httpx.AsyncClient) -> list[tuple[int, object]]:
    """Status and body of each request; what no two runs share is left out."""
    found = []
    for method, path, body in requests():
        response = await client.request(method, path, json=body)
        content = response.json()
        for item in content.get("items", []):
            if item.get("score") is not None:
                item["score"] = round(item["score"], 5)  # the number of BLAS threads moves the last digits
        found.append((response.status_code, {k: v for k, v in content.items() if k not in (*VOLATILE, "event_id")}))
    return found


async def test_one_process_answers_as_four_do(
    store: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(store, redis_url, tmp_path)
    apart_processes = [start(service, variables) for service in SERVICES]
    try:
        for service, process in zip(SERVICES, apart_processes, strict=True):
            await wait_until_ready(variables[f"CASCADE_{service.upper()}_PORT"], process)
        url = f"http://127.0.0.1:{variables['CASCADE_GATEWAY_PORT']}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            apart = await answers(client)
    finally:
        for process in apart_processes:
            process.terminate()
        for process in apart_processes:
            process.wait(30)

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = create_app(AllSettings(RetrievalSettings(), FilterSettings(), RankerSettings(), GatewaySettings()))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        together = await answers(client)

    assert together == apart
    statuses = [status for status, _ in together]
    assert statuses[:18] == [200] * 18
    assert statuses[18:73] == [202] * 55
    assert statuses[-9:] == [200, 422, 404, 200, 200, 200, 200, 200, 200]
    lists = [body for _, body in together if "items" in body and "degraded" in body]
    assert all(body["degraded"] == ["features"] for body in lists)  # no feature store in this test
    before, after = lists[0], lists[18]
    assert len(before["items"]) == 10
    # 55 of 60 items met: looked for deeper than the first 30, and what was met is gone.
    assert 0 < len(after["items"]) <= 5
    assert not {item["item_id"] for item in after["items"]} & set(IDS[:55])
    assert lists[-1] == before


async def test_the_one_endpoint_refreshes_the_bundles_of_all(
    store: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-some-length"
    variables = environment(store, redis_url, tmp_path)
    for service in SERVICES:
        variables |= {
            f"CASCADE_{service.upper()}_INTERNAL_TOKEN": token,
            f"CASCADE_{service.upper()}_ALIAS_POLL_S": "3600",
        }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    models = ModelStore(store)
    old = {service: models.alias(service, "stable") for service in ("retrieval", "ranker", "gateway")}
    app = create_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):

        async def told() -> dict[str, str]:
            answer = await client.post("/internal/refresh", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 200
            return {service: bundle["version"] for service, bundle in answer.json()["bundles"].items()}

        assert await told() == old
        parts = RankerArtifacts.load(models.bundle("ranker", "stable").path)
        with torch.no_grad():
            for parameter in parts.dlrm.parameters():
                parameter.mul_(1.1)
        new = models.write("ranker", parts.save, training_days=[dt.date(2026, 1, 6)]).version
        promote(models, "ranker", new)
        assert await told() == old | {"ranker": new}
        answer = await client.post("/v1/recommendations", json={"user_id": "u1"})
        assert answer.json()["versions"]["ranker"]["version"] == new
        rollback(models, "ranker")
        assert await told() == old


async def test_a_canary_answers_its_users_in_one_process_too(
    store: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all of it is found at once when the process is told."""
    token = "a-token-of-some-length"
    variables = environment(store, redis_url, tmp_path) | {"CASCADE_GATEWAY_CANARY_POLL_S": "3600"}
    for service in SERVICES:
        variables |= {
            f"CASCADE_{service.upper()}_INTERNAL_TOKEN": token,
            f"CASCADE_{service.upper()}_ALIAS_POLL_S": "3600",
        }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    models = ModelStore(store)
    stable = models.alias("retrieval", "stable")
    parts = RetrievalArtifacts.load(models.bundle("retrieval", "stable").path)
    with torch.no_grad():
        for parameter in parts.query_tower.parameters():
            parameter.mul_(1.1)
    tried = models.write("retrieval", parts.save, training_days=[dt.date(2026, 1, 6)]).version
    app = create_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):

        async def told() -> dict[str, Any]:
            answer = await client.post("/internal/refresh", headers={"authorization": f"Bearer {token}"})
            found: dict[str, Any] = answer.json()["bundles"]
            return found

        async def tracks() -> set[tuple[str, str]]:
            found = set()
            for number in range(30):
                answer = await client.post("/v1/recommendations", json={"user_id": f"u{number}"})
                assert "retrieval" not in answer.json()["degraded"]
                version = answer.json()["versions"]["retrieval"]
                found.add((version["track"], version["version"]))
            return found

        canary.start(models, "retrieval", tried, 50)
        bundles = await told()
        assert bundles["retrieval"]["canary"] == {"version": tried, "changed": True, "refused": None}
        assert bundles["gateway"]["canaries"] == {"retrieval": 50.0}
        assert await tracks() == {("stable", stable), ("canary", tried)}
        canary.abort(models, "retrieval", "the test has seen enough")
        await told()
        assert await tracks() == {("stable", stable)}


@pytest.mark.parametrize("module", ["one_process", "retrieval.__main__", "ranker.__main__"])
def test_threads_are_bounded_before_numpy_is_loaded(module: str) -> None:
    """BLAS reads its number of threads when it is loaded; a module that loads NumPy itself comes too late."""
    program = f"import sys, services.{module}; print('numpy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False"
