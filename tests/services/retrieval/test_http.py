from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.api.retrieval import RetrieveResponse
from services.retrieval.app import create_app
from services.retrieval.settings import RetrievalSettings

BODY = {"user": {"user_id": "u1"}, "context": {"timestamp": 1_767_600_000}, "k": 5}


@pytest.fixture
def app_settings(tmp_path: Path) -> RetrievalSettings:
    return RetrievalSettings(model_store=str(tmp_path / "models"), alias_poll_s=0.01)


async def test_candidates_and_similar_items(
    app_settings: RetrievalSettings, publish: Callable[[int], str], open_app: Any
) -> None:
    version = publish(0)
    async with open_app(create_app(app_settings)) as client:
        assert (await client.get("/readyz")).json()["versions"] == {"stable": version}
        found = RetrieveResponse.model_validate_json((await client.post("/v1/retrieve", json=BODY)).content)
        assert len(found.item_ids) == len(found.scores) == 5
        assert found.scores == sorted(found.scores, reverse=True)
        assert (found.version, found.track) == (version, "stable")
        assert found.timing.compute_ms > 0
        similar = await client.post("/v1/similar", json={"item_id": found.item_ids[0], "k": 3})
        assert len(RetrieveResponse.model_validate_json(similar.content).item_ids) == 3
        missing = await client.post("/v1/similar", json={"item_id": "gone"})
        assert missing.status_code == 404
        assert missing.json()["type"] == "urn:cascade:problem:unknown-item"
        metrics = (await client.get("/metrics")).text
        assert f'cascade_bundle_info{{service="retrieval",track="stable",version="{version}"}} 1.0' in metrics
        assert 'cascade_queue_wait_seconds_count{service="retrieval"} 3.0' in metrics


async def test_without_a_bundle_it_is_up_and_not_ready(
    app_settings: RetrievalSettings, publish: Callable[[int], str], open_app: Any, eventually: Any
) -> None:
    app = create_app(app_settings)
    async with open_app(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        refused = await client.post("/v1/retrieve", json=BODY)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        publish(0)
        await eventually(lambda: app.state.holder.version is not None)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/v1/retrieve", json=BODY)).status_code == 200


async def test_versions_change_under_load_without_a_failure(
    app_settings: RetrievalSettings, publish: Callable[[int], str], open_app: Any, eventually: Any
) -> None:
    versions = [publish(0)]
    app = create_app(app_settings)
    answered: list[tuple[int, str]] = []
    async with open_app(app) as client:
        going = True

        async def ask() -> None:
            while going:
                response = await client.post("/v1/retrieve", json=BODY)
                answered.append((response.status_code, response.json()["version"]))

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for seed in (1, 2):
            versions.append(await asyncio.to_thread(publish, seed))
            await eventually(lambda: app.state.holder.version == versions[-1])
        already = len(answered)
        await eventually(lambda: len(answered) > already + 8)
        going = False
        await asyncio.gather(*asking)
    assert {status for status, _ in answered} == {200}
    assert {version for _, version in answered} <= set(versions)
    assert answered[-1][1] == versions[-1]


async def test_a_harmed_bundle_is_refused_and_the_old_one_serves(
    app_settings: RetrievalSettings, publish: Callable[[int], str], open_app: Any, tmp_path: Path, eventually: Any
) -> None:
    old = publish(0)
    app = create_app(app_settings)
    async with open_app(app) as client:
        with capture_logs() as logs:
            await app.state.holder.aclose()  # no look between writing and harming
            bad = publish(1)
            weights = tmp_path / "models" / "retrieval" / bad / "query_tower"
            next(weights.glob("*.safetensors")).write_bytes(b"not weights")
            assert not await app.state.holder.refresh()
        assert any("refused" in entry["event"] for entry in logs)
        answer = await client.post("/v1/retrieve", json=BODY)
        assert (answer.status_code, answer.json()["version"]) == (200, old)
        assert 'cascade_bundle_refused_total{service="retrieval"} 1.0' in (await client.get("/metrics")).text


async def test_the_old_model_leaves_memory_when_a_new_one_serves(
    tmp_path: Path, publish: Callable[[int], str], open_app: Any
) -> None:
    publish(0)
    app = create_app(RetrievalSettings(model_store=str(tmp_path / "models"), alias_poll_s=3600))
    async with open_app(app) as client:
        assert (await client.post("/v1/retrieve", json=BODY)).status_code == 200
        loaded = app.state.holder.current.value
        old = weakref.ref(loaded.query_tower)
        del loaded
        publish(1)
        gc.disable()  # it goes at once: a frozen heap is never searched for cycles
        try:
            assert await app.state.holder.refresh()
            assert old() is None
        finally:
            gc.enable()
        assert (await client.post("/v1/retrieve", json=BODY)).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"k": 0}, "k"),
        ({"k": 1001}, "k"),
        ({"user": {"user_id": ""}}, "user.user_id"),
        ({"user": {"user_id": "u", "age": -1}}, "user.age"),
        ({"context": {}}, "context.timestamp"),
        ({"depth": 1}, "depth"),
    ],
)
async def test_faulty_requests_name_the_field(
    app_settings: RetrievalSettings, open_app: Any, change: dict[str, object], field: str
) -> None:
    async with open_app(create_app(app_settings)) as client:
        response = await client.post("/v1/retrieve", json={**BODY, **change})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_canary_answers_who_asks_for_it_and_stable_all_others(
    tmp_path: Path, publish: Callable[[int], str], store: Any, open_app: Any, eventually: Any
) -> None:
    tried = publish(1)
    stable = publish(0)
    store.set_alias("retrieval", "canary", tried)
    app = create_app(RetrievalSettings(model_store=str(tmp_path / "models"), alias_poll_s=0.01))
    async with open_app(app) as client:
        await eventually(lambda: "canary" in app.state.tracks.versions())
        assert (await client.get("/readyz")).json()["versions"] == {"stable": stable, "canary": tried}
        bodies = [BODY, {**BODY, "track": "stable"}, {**BODY, "track": "canary"}] * 4
        answers = [
            answer.json() for answer in await asyncio.gather(*(client.post("/v1/retrieve", json=b) for b in bodies))
        ]
        expected = [("stable", stable), ("stable", stable), ("canary", tried)] * 4
        assert [(answer["track"], answer["version"]) for answer in answers] == expected
        assert answers[0]["scores"] == answers[1]["scores"] != answers[2]["scores"]
        store.remove_alias("retrieval", "canary")
        await eventually(lambda: list(app.state.tracks.versions()) == ["stable"])
        last = (await client.post("/v1/retrieve", json={**BODY, "track": "canary"})).json()
        assert (last["track"], last["version"]) == ("stable", stable)
        assert (await client.post("/v1/retrieve", json={**BODY, "track": "best"})).status_code == 422
