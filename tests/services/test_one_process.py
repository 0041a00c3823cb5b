"""All services in one process answer as four processes do."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import redis
import torch

from cascade.features.item_table import ItemTable
from cascade.features.popularity import Popularity
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index.build import build_index
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.models.two_tower import TwoTower, TwoTowerConfig
from cascade.online.server import free_port
from cascade.store import ModelStore, canary
from cascade.store.artifacts import GatewayArtifacts, RankerArtifacts, RetrievalArtifacts
from cascade.store.release import promote, rollback
from services.filter.settings import FilterSettings
from services.gateway.settings import GatewaySettings
from services.one_process import AllSettings, create_app
from services.ranker.settings import RankerSettings
from services.retrieval.settings import RetrievalSettings

SERVICES = ("retrieval", "filter", "ranker", "gateway")
ITEMS, USERS = 60, 20
IDS = [f"i/{number}" for number in range(ITEMS)]
TIMES = {"morning": 1_768_206_600, "night": 1_768_257_000}
VOLATILE = ("request_id", "timings")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small untrained bundles of all services, each alias `stable`."""
    root = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    people = pa.table(
        {
            "user_id": [f"u{number}" for number in range(USERS)],
            "age": [18 + number for number in range(USERS)],
            "gender": ["F" if number % 2 else "M" for number in range(USERS)],
        }
    )
    catalog = pa.table(
        {
            "item_id": IDS,
            "title": [f"Item {number}" for number in range(ITEMS)],
            "description": ["of wool"] * ITEMS,
            "category_l1": [("shoes", "dresses")[number % 2] for number in range(ITEMS)],
            "category_l2": [f"style{number % 5}" for number in range(ITEMS)],
            "price": [5.0 + number for number in range(ITEMS)],
            "gender": [("F", "M", None)[number % 3] for number in range(ITEMS)],
            "image": pa.array([None] * ITEMS, pa.string()),
        }
    )
    user = UserTransform.fit(people, ["shoes", "dresses"])
    item = ItemTransform.fit(catalog, IDS)
    context = ContextTransform.fit(pa.table({"device_type": ["mobile", "desktop"]}))
    image, text = (rng.standard_normal((ITEMS, 64)).astype(np.float32) for _ in range(2))
    table = ItemTable.build(catalog, item, image, text)
    towers = TwoTower(TwoTowerConfig(user.cardinalities, 1, item.cardinalities, 1)).eval()
    vectors = towers.candidate.predict(table.categorical, table.continuous, image, text)
    index, _ = build_index(vectors, source=towers.candidate.fingerprint(), threads=1)
    towers.query.candidate_fingerprint = towers.candidate.fingerprint()
    dlrm = Dlrm(DlrmConfig(user.cardinalities, item.cardinalities, context.cardinalities, 1, 1, 4)).eval()
    ranked = tuple((one, float(ITEMS - place)) for place, one in enumerate(IDS))
    bundles = {
        "retrieval": RetrievalArtifacts(user, towers.query, index, IDS),
        "ranker": RankerArtifacts(user, context, table, dlrm),
        "gateway": GatewayArtifacts.from_catalog(catalog, Popularity(ranked, {}, {})),
    }
    models = ModelStore(root)
    for service, parts in bundles.items():
        version = models.write(service, parts.save, training_days=[dt.date(2026, 1, 5)]).version
        models.set_alias(service, "stable", version)
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


def environment(store: Path, redis_url: str, tmp_path: Path) -> dict[str, str]:
    ports = {service: free_port() for service in SERVICES}
    values = {}
    for service, port in ports.items():
        prefix = f"CASCADE_{service.upper()}"
        values |= {
            f"{prefix}_PORT": str(port),
            f"{prefix}_REDIS_URL": redis_url,
            f"{prefix}_MODEL_STORE": str(store),
            f"CASCADE_GATEWAY_{service.upper()}_URL": f"http://127.0.0.1:{port}",
        }
    return {
        **values,
        "CASCADE_GATEWAY_FEAST_REGISTRY": str(tmp_path / "none.db"),
        # The machine may be slow; this is about answers, not about time.
        **{f"CASCADE_GATEWAY_{stage}_TIMEOUT_MS": "20000" for stage in ("RETRIEVAL", "FILTER", "RANKER", "WRITE")},
        "CASCADE_GATEWAY_DEADLINE_MS": "60000",
        "CASCADE_GATEWAY_OLDEST_S": "4000000000",
        "CASCADE_GATEWAY_CANDIDATES": "30",
        "OMP_NUM_THREADS": "1",
    }


def start(service: str, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"services.{service}"], env={**os.environ, **variables}, stdout=subprocess.DEVNULL
    )


async def wait_until_ready(port: str, process: subprocess.Popen[bytes]) -> None:
    async with httpx.AsyncClient() as client:
        limit = time.monotonic() + 90
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                    return
            except httpx.TransportError:
                assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.1)  # noqa: ASYNC251  nothing else runs here


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
