"""The public API as a client sees it: the real app over the services' messages."""

import asyncio
import gc
import time
import weakref
from dataclasses import replace
from typing import get_args

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from cascade.api.common import EventType
from cascade.api.gateway import RecommendationResponse
from cascade.online import keys
from cascade.online.impressions import impression_of
from cascade.serving.settings import settings_table
from cascade.store.artifacts import GatewayArtifacts
from cascade.store.release import promote
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings


def metric(text, line):
    (found,) = [one for one in text.splitlines() if one.startswith(line)]
    return float(found.rsplit(" ", 1)[1])


async def recommend(client, **body):
    response = await client.post("/v1/recommendations", json={"user_id": "u-1", "k": 5, **body})
    assert response.status_code == 200, response.text
    return RecommendationResponse.model_validate_json(response.content)


async def test_recommendations(client, services, now):
    response = await client.post(
        "/v1/recommendations",
        json={"user_id": "u-1", "k": 3, "device_type": "Mobile"},
        headers={"x-request-id": "req-7"},
    )
    answer = RecommendationResponse.model_validate_json(response.content)
    assert [item.item_id for item in answer.items] == ["item-19", "item-18", "item-17"]
    assert answer.items[1].image == "/images/pictures/18%20a.png"
    assert answer.request_id == response.headers["x-request-id"] == "req-7"
    # Redis and Feast are not there in these tests.
    assert answer.degraded == ["features"]
    assert {request.headers["x-request-id"] for request in services.requests} == {"req-7"}
    assert services.stages.retrievals[0].context.device_type == "mobile"
    assert services.stages.retrievals[0].context.timestamp == now


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u", "k": 0}, "k"),
        ({"user_id": "u", "k": 101}, "k"),
        ({"user_id": "u", "timestamp": -1}, "timestamp"),
        ({"user_id": "u", "temperature": 0}, "temperature"),
        ({"user_id": "u", "mmr_lambda": 1.01}, "mmr_lambda"),
        ({"user_id": "u", "mmr_lambda": 0.5, "diversity": True}, "mmr_lambda"),
        ({"user_id": "u", "max_per_category_l1": 0}, "max_per_category_l1"),
        ({"user_id": "u", "max_per_category_l2": 101}, "max_per_category_l2"),
        ({"user_id": "u", "exploration": 2}, "exploration"),
        ({"user_id": "u", "devise": "mobile"}, "devise"),
        ({"user_id": "u\n"}, "user_id"),
        ({"user_id": "u\u0085"}, "user_id"),
        ({"user_id": "cafe\u0301"}, "user_id"),
        ({"user_id": "u" * 129}, "user_id"),
        ({"user_id": "u", "timestamp": 10**400}, "timestamp"),
        ({"user_id": "u", "seed": 2**63}, "seed"),
        ({"user_id": "u", "explain": 0}, "explain"),
        ({"user_id": "u", "k": True}, "k"),
        ({"user_id": "u", "k": "10"}, "k"),
        ({"user_id": "u", "exploration": False}, "exploration"),
    ],
)
async def test_a_request_at_fault_names_the_field(client, body, field):
    response = await client.post("/v1/recommendations", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [one["field"] for one in response.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("service", "failure"),
    [
        ("retrieval", httpx.Response(500)),
        ("filter", httpx.ConnectError("refused")),
        ("ranker", httpx.Response(429)),
        ("ranker", httpx.Response(422, text="our fault")),
        ("ranker", httpx.Response(200, text="garbage")),
    ],
)
async def test_a_failing_service_degrades_and_comes_back(client, services, service, failure):
    services.instead[service] = failure
    answer = await recommend(client)
    assert answer.degraded == ["features", service]
    assert len(answer.items) == 5
    text = (await client.get("/metrics")).text
    assert metric(text, f'cascade_degraded_total{{stage="{service}"}}') == 1
    assert metric(text, f'cascade_stage_seconds_count{{stage="{service}"}}') == 1
    services.instead.clear()
    assert (await recommend(client)).degraded == ["features"]


async def test_replicas_of_a_service_are_counted(model_store, settings, services):
    nobody = settings.model_copy(update={"filter_url": "http://127.0.0.1:1, http://127.0.0.1:2"})
    callers = services.callers()
    del callers["filter"]
    app = create_app(nobody, callers)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        text = (await client.get("/metrics")).text
        assert metric(text, 'cascade_replicas{stage="filter"}') == 2
        assert metric(text, 'cascade_replicas_ejected{stage="filter"}') == 0
        assert (await recommend(client)).degraded == ["features", "filter"]
        text = (await client.get("/metrics")).text
    assert metric(text, 'cascade_replicas_ejected{stage="filter"}') == 2
    assert metric(text, 'cascade_ejections_total{reason="unreachable",stage="filter"}') == 2
    assert metric(text, 'cascade_call_retries_total{stage="filter"}') >= 1


async def test_a_refusal_is_told_apart_from_an_outage(client, services):
    services.instead["ranker"] = httpx.Response(422)
    await recommend(client)
    services.instead["ranker"] = httpx.Response(503)
    await recommend(client)
    text = (await client.get("/metrics")).text
    assert metric(text, 'cascade_stage_failures_total{reason="refused",stage="ranker"}') == 1
    assert metric(text, 'cascade_stage_failures_total{reason="down",stage="ranker"}') == 1


async def test_interactions_are_recorded(client, services, now):
    response = await client.post(
        "/v1/interactions", json={"user_id": "u-1", "item_id": "item-04", "device_type": "fridge"}
    )
    assert (response.status_code, response.json()) == (202, {"event_id": "1-0"})
    (event,) = services.stages.recorded
    assert (event.item_id, event.timestamp, event.event_type, event.device_type) == ("item-04", now, "click", None)


async def test_an_interaction_with_an_unknown_item_names_the_field(client, services):
    response = await client.post("/v1/interactions", json={"user_id": "u-1", "item_id": "item-99"})
    assert response.status_code == 404
    (fault,) = response.json()["errors"]
    assert (fault["field"], fault["value"]) == ("item_id", "item-99")
    assert services.stages.recorded == []


@pytest.mark.parametrize(("ahead_s", "status"), [(3600, 202), (3602, 422), (-86_400, 202)])
async def test_an_interaction_may_not_come_from_the_future(client, now, ahead_s, status):
    response = await client.post(
        "/v1/interactions", json={"user_id": "u-1", "item_id": "item-04", "timestamp": now + ahead_s}
    )
    assert response.status_code == status
    if status == 422:
        assert response.json()["errors"][0]["field"] == "timestamp"


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        (httpx.ConnectError("refused"), "1"),
        (httpx.ReadTimeout("late"), "1"),
        (httpx.Response(429, headers={"retry-after": "3"}), "3"),
        (httpx.Response(503), "1"),
    ],
)
async def test_what_is_not_recorded_is_not_accepted(client, services, failure, wait):
    services.instead["filter"] = failure
    response = await client.post("/v1/interactions", json={"user_id": "u-1", "item_id": "item-04"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == wait


async def test_items(client):
    page = (await client.get("/v1/items", params={"category_l1": "hats", "offset": 2, "limit": 2})).json()
    assert [item["item_id"] for item in page["items"]] == ["item-05", "item-07"]
    assert (page["total"], page["offset"], page["limit"]) == (15, 2, 2)


@pytest.mark.parametrize("params", [{"limit": 101}, {"offset": -1}, {"min_price": "nan"}, {"min_price": "x"}])
async def test_items_with_a_query_at_fault(client, params):
    response = await client.get("/v1/items", params=params)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == next(iter(params))


async def test_one_item(client):
    assert (await client.get("/v1/items/item-01")).json()["title"] == "Crème hat 1"
    response = await client.get("/v1/items/no/such item")
    assert response.status_code == 404
    assert response.json()["errors"] == [
        {"field": "item_id", "message": "no item of the catalog has this id", "value": "no/such item"}
    ]


async def test_similar_items(client, services):
    answer = (await client.get("/v1/items/item-01/similar", params={"k": 2})).json()
    assert [item["item_id"] for item in answer["items"]] == ["item-00", "item-01"]
    assert answer["items"][0]["similarity"] == 1.0
    assert answer["version"] == "r1"
    assert (await client.get("/v1/items/item-99/similar")).status_code == 404
    services.instead["retrieval"] = httpx.Response(404)
    assert (await client.get("/v1/items/item-01/similar")).status_code == 404
    services.instead["retrieval"] = httpx.ConnectError("refused")
    assert (await client.get("/v1/items/item-01/similar")).status_code == 503


async def test_popular_items_without_redis(client):
    answer = (await client.get("/v1/popular", params={"category": "shoes", "k": 2})).json()
    assert [(item["item_id"], item["interactions"]) for item in answer["items"]] == [
        ("item-28", 100.0),
        ("item-26", 99.0),
    ]
    assert answer["category"] == "shoes"
    assert (await client.get("/v1/popular")).json()["items"][0]["item_id"] == "item-01"
    assert (await client.get("/v1/popular", params={"category": "none such"})).json()["items"] == []
    assert metric((await client.get("/metrics")).text, "cascade_popular_fallbacks_total") == 3


@pytest.mark.parametrize("event_type", get_args(EventType))
async def test_each_type_of_event_reaches_the_filter(client, services, event_type):
    body = {"user_id": "u-1", "item_id": "item-04", "event_type": event_type, "request_id": "req-1"}
    assert (await client.post("/v1/interactions", json=body)).status_code == 202
    (event,) = services.stages.recorded
    assert (event.event_type, event.request_id) == (event_type, "req-1")


async def test_the_old_catalog_leaves_memory_when_a_new_one_serves(model_store, settings, services, tmp_path):
    app = create_app(settings.model_copy(update={"alias_poll_s": 3600}), services.callers())
    async with app.router.lifespan_context(app):
        holder = app.state.gateway.holder
        old = weakref.ref(holder.current.value.catalog)
        artifacts = GatewayArtifacts.load(tmp_path / "models" / "gateway" / holder.version)
        fewer = replace(artifacts, items={key: row for key, row in artifacts.items.items() if key < "item-10"})
        promote(model_store, "gateway", model_store.write("gateway", fewer.save, training_days=[]).version)
        gc.disable()  # it goes at once: a frozen heap is never searched for cycles
        try:
            assert await holder.refresh()
            assert old() is None
        finally:
            gc.enable()


async def test_forgetting_history(client, services):
    response = await client.delete("/v1/users/u%2F1/history")
    assert response.json() == {"user_id": "u/1", "removed": {"history": 2}}
    assert services.requests[-1].url.raw_path == b"/v1/seen/u%2F1"


async def test_forgetting_a_user_needs_the_online_store(client):
    # Redis is not there: the caller must not believe that anything is gone.
    response = await client.delete("/v1/users/u-1")
    assert response.status_code == 503
    assert "retry-after" in response.headers


async def test_pictures(client):
    assert (await client.get("/images/pictures/0%20a.png")).content == b"a picture"
    for path in ("/images/../secret.txt", "/images/%2e%2e/secret.txt", "/images/..%2fsecret.txt", "/images/none.png"):
        response = await client.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_picture_link_that_leaves_the_folder_is_not_followed(client, tmp_path):
    (tmp_path / "images" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert (await client.get("/images/link.txt")).status_code == 404


async def test_a_folder_of_pictures_that_is_not_there(model_store, open_gateway, tmp_path):
    async with open_gateway(images_dir=tmp_path / "none") as client:
        assert (await client.get("/images/a.png")).status_code == 404


async def test_page_and_documentation(client):
    page = await client.get("/")
    assert "30 items" in page.text
    assert 'href="/docs"' in page.text
    assert (await client.get("/docs")).status_code == 200
    document = (await client.get("/openapi.json")).json()
    assert {"/v1/recommendations", "/v1/interactions", "/v1/items/{item_id}/similar", "/readyz"} <= set(
        document["paths"]
    )


async def test_ready_with_its_dependencies_states(client, services):
    services.instead["ranker"] = httpx.ConnectError("refused")
    services.instead["filter"] = httpx.Response(503)
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["dependencies"] == {
        "retrieval": "ready",
        "filter": "not ready",
        "ranker": "down",
        "redis": "down",
    }
    assert response.json()["versions"]["stable"].startswith("20260105-")
    assert list(response.json()) == ["status", "checks", "versions", "dependencies"]
    assert (response.json()["status"], response.json()["checks"]) == ("ready", {"bundle": "ok"})


async def test_lists_shown_are_in_the_stream(model_store, open_gateway, redis_url):
    patient = {"redis_url": SecretStr(redis_url), "redis_timeout_ms": 20_000}
    async with open_gateway(**patient) as client, Redis.from_url(redis_url) as redis:
        for number in range(3):
            answer = await client.post(
                "/v1/recommendations", json={"user_id": "u-1", "k": 4}, headers={"x-request-id": f"req-{number}"}
            )
            assert answer.status_code == 200
        limit = time.monotonic() + 30
        while await redis.xlen(keys.IMPRESSIONS) < 3:
            assert time.monotonic() < limit
            await asyncio.sleep(0.01)
        impressions = [impression_of(fields) for _, fields in await redis.xrange(keys.IMPRESSIONS)]
        assert [one.request_id for one in impressions] == ["req-0", "req-1", "req-2"]
        assert [item.item_id for item in impressions[0].items] == ["item-19", "item-18", "item-17", "item-16"]
        assert impressions[0].versions == {"retrieval": "r1", "ranker": "d1"}
        text = (await client.get("/metrics")).text
        assert metric(text, "cascade_impressions_written_total") == 3


async def test_without_redis_lists_are_answered_and_their_log_is_shed(client, services):
    for _ in range(3):
        assert (await recommend(client)).degraded == ["features"]
    shed = 'cascade_impressions_shed_total{reason="%s"}'
    limit = time.monotonic() + 30
    while metric(text := (await client.get("/metrics")).text, shed % "store") < 3:
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)
    assert metric(text, shed % "full") == 0
    assert metric(text, "cascade_impressions_written_total") == 0


async def test_a_new_catalog_serves_when_the_gateway_is_told(model_store, open_gateway, tmp_path):
    token = "a-token-of-some-length"
    async with open_gateway(internal_token=SecretStr(token), alias_poll_s=3600) as client:
        before = model_store.alias("gateway", "stable")
        assert (await client.get("/v1/items")).json()["total"] == 30
        artifacts = GatewayArtifacts.load(tmp_path / "models" / "gateway" / before)
        fewer = replace(artifacts, items={key: row for key, row in artifacts.items.items() if key < "item-10"})
        after = model_store.write("gateway", fewer.save, training_days=[]).version
        promote(model_store, "gateway", after)
        assert (await client.post("/internal/refresh")).status_code == 401
        told = await client.post("/internal/refresh", headers={"authorization": f"Bearer {token}"})
        assert told.json() == {"bundles": {"gateway": {"version": after, "changed": True, "refused": None}}}
        assert (await client.get("/v1/items")).json()["total"] == 10
        text = (await client.get("/metrics")).text
        assert f'version="{after}"' in text
        assert f'version="{before}"' not in text


async def test_without_a_bundle_it_is_not_ready_and_says_so(open_gateway, services):
    async with open_gateway() as client:
        for response in (
            await client.get("/readyz"),
            await client.get("/v1/items"),
            await client.post("/v1/recommendations", json={"user_id": "u"}),
        ):
            assert response.status_code == 503
            assert "retry-after" in response.headers
        assert (await client.get("/healthz")).status_code == 200
        assert "no catalog yet" in (await client.get("/")).text
        # What a visitor did is kept even then: the item cannot be called unknown.
        accepted = await client.post("/v1/interactions", json={"user_id": "u", "item_id": "anything"})
        assert accepted.status_code == 202


async def test_each_setting_is_in_the_readme():
    from pathlib import Path

    import services.gateway

    readme = (Path(services.gateway.__file__).parent / "README.md").read_text()
    assert settings_table(GatewaySettings) in readme


async def test_the_factory_reads_the_environment(monkeypatch):
    monkeypatch.setenv("CASCADE_GATEWAY_CANDIDATES", "123")
    assert GatewaySettings().candidates == 123
    assert create_app().state.settings.candidates == 123


async def test_beyond_the_bound_requests_are_refused_at_once_and_the_rest_is_served(
    model_store, open_gateway, services
):
    release = asyncio.Event()
    stages = services.stages

    async def held(request):
        await release.wait()
        return await type(stages).retrieve(stages, request)

    stages.retrieve = held
    async with open_gateway(max_in_flight=3, retrieval_timeout_ms=60_000, deadline_ms=60_000) as client:
        ask = [asyncio.create_task(client.post("/v1/recommendations", json={"user_id": f"u{n}"})) for n in range(5)]
        while sum(task.done() for task in ask) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert (await client.get("/healthz")).status_code == 200
        click = await client.post("/v1/interactions", json={"user_id": "u", "item_id": "item-04"})
        assert click.status_code == 202, "clicks have a bound of their own"
        release.set()
        answers = [await task for task in ask]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:cascade:problem:overloaded"
        assert (await client.post("/v1/recommendations", json={"user_id": "u"})).status_code == 200
