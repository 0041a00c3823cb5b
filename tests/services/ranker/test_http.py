from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.api.ranker import RankResponse
from services.ranker.app import create_app
from services.ranker.settings import RankerSettings

BODY: dict[str, Any] = {
    "user": {"user_id": "u1", "top_category": "shoes"},
    "context": {"timestamp": 1_767_600_000, "device_type": "mobile"},
    "item_ids": [*(f"i{i}" for i in range(20)), "gone"],
    "k": 5,
}


@pytest.fixture
def app_settings(tmp_path: Path) -> RankerSettings:
    return RankerSettings(model_store=str(tmp_path / "models"), alias_poll_s=0.01)


async def test_a_ranking(app_settings: RankerSettings, publish: Callable[[int], str], open_app: Any) -> None:
    version = publish(0)
    async with open_app(create_app(app_settings)) as client:
        assert (await client.get("/readyz")).json()["versions"] == {"stable": version}
        ranked = RankResponse.model_validate_json((await client.post("/v1/rank", json=BODY)).content)
        assert len(ranked.item_ids) == len(ranked.scores) == 5
        assert ranked.scores == sorted(ranked.scores, reverse=True)
        assert ranked.propensities == [1.0] * 5
        assert (ranked.unknown, ranked.version, ranked.track) == (1, version, "stable")
        assert ranked.timing.compute_ms > 0
        diverse = {**BODY, "diversity": {"temperature": 2.0, "seed": 4}}
        first, again = [(await client.post("/v1/rank", json=diverse)).json() for _ in range(2)]
        assert first["item_ids"] == again["item_ids"]
        assert all(0 < chance < 1 for chance in first["propensities"])
        metrics = (await client.get("/metrics")).text
        assert 'cascade_unknown_ids_total{service="ranker"} 3.0' in metrics
        assert f'version="{version}"' in metrics


async def test_without_a_bundle_it_is_up_and_not_ready(
    app_settings: RankerSettings, publish: Callable[[int], str], open_app: Any, eventually: Any
) -> None:
    app = create_app(app_settings)
    async with open_app(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.post("/v1/rank", json=BODY)).status_code == 503
        publish(0)
        await eventually(lambda: app.state.holder.version is not None)
        assert (await client.post("/v1/rank", json=BODY)).status_code == 200


async def test_requests_together_get_each_their_own_answer(
    app_settings: RankerSettings, publish: Callable[[int], str], open_app: Any
) -> None:
    publish(0)
    async with open_app(create_app(app_settings)) as client:
        bodies = [{**BODY, "item_ids": [f"i{(7 * j + n) % 50}" for j in range(1 + n)], "k": 100} for n in range(30)]
        answers = await asyncio.gather(*(client.post("/v1/rank", json=body) for body in bodies))
        for body, answer in zip(bodies, answers, strict=True):
            assert answer.status_code == 200
            assert sorted(answer.json()["item_ids"]) == sorted(set(body["item_ids"]))
        batches = [line for line in (await client.get("/metrics")).text.splitlines() if "batch_size_count" in line]
        assert 0 < float(batches[0].split()[-1]) < 30


async def test_overload_is_answered_429_with_retry_after(
    tmp_path: Path, publish: Callable[[int], str], open_app: Any
) -> None:
    publish(0)
    settings = RankerSettings(model_store=str(tmp_path / "models"), queue_bound=1, batch_max_size=1)
    async with open_app(create_app(settings)) as client:
        answers = await asyncio.gather(*(client.post("/v1/rank", json=BODY) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
        assert (await client.post("/v1/rank", json=BODY)).status_code == 200


async def test_the_old_model_leaves_memory_when_a_new_one_serves(
    tmp_path: Path, publish: Callable[[int], str], open_app: Any
) -> None:
    publish(0)
    app = create_app(RankerSettings(model_store=str(tmp_path / "models"), alias_poll_s=3600))
    async with open_app(app) as client:
        assert (await client.post("/v1/rank", json=BODY)).status_code == 200
        loaded = app.state.holder.current.value
        old = weakref.ref(loaded.dlrm)
        del loaded
        publish(1)
        gc.disable()  # it goes at once: a frozen heap is never searched for cycles
        try:
            assert await app.state.holder.refresh()
            assert old() is None
        finally:
            gc.enable()
        assert (await client.post("/v1/rank", json=BODY)).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"k": 0}, "k"),
        ({"item_ids": ["x"] * 1001}, "item_ids"),
        ({"diversity": {"temperature": 0}}, "diversity.temperature"),
        ({"diversity": {"seed": -1}}, "diversity.seed"),
        ({"composition": {"mmr_lambda": 1.1}}, "composition.mmr_lambda"),
        ({"composition": {"exploration": -0.1}}, "composition.exploration"),
        ({"composition": {"max_per_category_l1": 0}}, "composition.max_per_category_l1"),
        ({"composition": {"mmr_lambda": 0.5, "temperature": 1}}, "composition"),
        ({"diversity": {}, "composition": {}}, "composition"),
        ({"user": None}, "user"),
    ],
)
async def test_faulty_requests_name_the_field(
    app_settings: RankerSettings, open_app: Any, change: dict[str, object], field: str
) -> None:
    async with open_app(create_app(app_settings)) as client:
        response = await client.post("/v1/rank", json={**BODY, **change})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_canary_answers_who_asks_for_it_and_stable_all_others(
    tmp_path: Path, publish: Callable[[int], str], store: Any, open_app: Any, eventually: Any
) -> None:
    tried = publish(1)
    stable = publish(0)
    store.set_alias("ranker", "canary", tried)
    app = create_app(RankerSettings(model_store=str(tmp_path / "models"), alias_poll_s=0.01))
    async with open_app(app) as client:
        await eventually(lambda: "canary" in app.state.tracks.versions())
        assert (await client.get("/readyz")).json()["versions"] == {"stable": stable, "canary": tried}
        bodies = [BODY, {**BODY, "track": "stable"}, {**BODY, "track": "canary"}] * 4
        answers = [answer.json() for answer in await asyncio.gather(*(client.post("/v1/rank", json=b) for b in bodies))]
        expected = [("stable", stable), ("stable", stable), ("canary", tried)] * 4
        assert [(answer["track"], answer["version"]) for answer in answers] == expected
        assert answers[0]["scores"] == answers[1]["scores"] != answers[2]["scores"]
        store.remove_alias("ranker", "canary")
        await eventually(lambda: list(app.state.tracks.versions()) == ["stable"])
        last = (await client.post("/v1/rank", json={**BODY, "track": "canary"})).json()
        assert (last["track"], last["version"]) == ("stable", stable)
        assert (await client.post("/v1/rank", json={**BODY, "track": "best"})).status_code == 422
