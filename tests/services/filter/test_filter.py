from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import redis
from pydantic import SecretStr

from cascade.api.common import EventType
from cascade.api.filter import FilterResponse, ForgetResponse, SeenResponse
from cascade.online import keys
from cascade.online.server import RedisServer, free_port
from services.filter.app import create_app
from services.filter.settings import FilterSettings

AT = 1_767_600_000


def settings(url: str, **changes: Any) -> FilterSettings:
    return FilterSettings(redis_url=SecretStr(url), redis_timeout_ms=2000, **changes)


@pytest.fixture
async def client(redis_url: str, open_app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with open_app(create_app(settings(redis_url))) as client:
        yield client


async def click(client: httpx.AsyncClient, user_id: str, item_id: str) -> httpx.Response:
    return await client.post("/v1/seen", json={"user_id": user_id, "item_id": item_id, "timestamp": AT})


async def unseen(client: httpx.AsyncClient, user_id: str, item_ids: list[str]) -> httpx.Response:
    return await client.post("/v1/filter", json={"user_id": user_id, "item_ids": item_ids})


async def test_what_was_clicked_is_gone_from_the_very_next_answer(client: httpx.AsyncClient) -> None:
    before = FilterResponse.model_validate_json((await unseen(client, "u", ["a", "b", "c"])).content)
    assert (before.item_ids, before.dropped) == (["a", "b", "c"], 0)
    event = SeenResponse.model_validate_json((await click(client, "u", "b")).content)
    assert "-" in event.event_id
    after = FilterResponse.model_validate_json((await unseen(client, "u", ["a", "b", "c"])).content)
    assert (after.item_ids, after.dropped) == (["a", "c"], 1)
    assert after.timing.compute_ms > 0


@pytest.mark.parametrize("event_type", get_args(EventType))
async def test_whatever_happened_to_an_item_hides_it(client: httpx.AsyncClient, event_type: str) -> None:
    event = {"user_id": "u", "item_id": "b", "timestamp": AT, "event_type": event_type}
    assert (await client.post("/v1/seen", json=event)).status_code == 200
    assert (await unseen(client, "u", ["a", "b", "c"])).json()["item_ids"] == ["a", "c"]


async def test_no_candidates_are_no_error(client: httpx.AsyncClient) -> None:
    assert (await unseen(client, "u", [])).json()["item_ids"] == []


@pytest.mark.parametrize("user_id", ["u", "a/b c", "ü%2F", "..", "x?y#z"])
async def test_forgetting_brings_everything_back(client: httpx.AsyncClient, user_id: str) -> None:
    from urllib.parse import quote

    await click(client, user_id, "a")
    assert (await unseen(client, user_id, ["a"])).json()["dropped"] == 1
    # sent as bytes of the request line, because httpx would resolve `..`
    path = f"/v1/seen/{quote(user_id, safe='').replace('.', '%2E')}"
    for expected in (2, 0):
        forgotten = await client.delete(path)
        assert ForgetResponse.model_validate_json(forgotten.content).removed == expected
    assert (await unseen(client, user_id, ["a"])).json()["dropped"] == 0


async def test_an_event_carries_its_context_and_is_written_once(client: httpx.AsyncClient, redis_url: str) -> None:
    body = {
        "user_id": "u", "item_id": "a", "timestamp": AT,
        "event_type": "purchase", "device_type": "mobile", "request_id": "r",
    }  # fmt: skip
    ids = {(await client.post("/v1/seen", json={**body, "write_id": "w" * 32})).json()["event_id"] for _ in range(2)}
    [event_id] = ids
    with redis.Redis.from_url(redis_url, decode_responses=True) as store:
        assert store.xrange(keys.EVENTS) == [(event_id, {**body, "timestamp": str(AT)})]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/filter", {"user_id": "", "item_ids": []}, "user_id"),
        ("POST", "/v1/filter", {"user_id": "u", "item_ids": ["x"] * 1001}, "item_ids"),
        ("POST", "/v1/filter", {"user_id": "u", "item_ids": ["x" * 129]}, "item_ids.0"),
        ("POST", "/v1/seen", {"user_id": "u", "item_id": "i", "timestamp": -1}, "timestamp"),
        ("POST", "/v1/seen", {"user_id": "u", "item_id": "i", "timestamp": AT, "event_type": "x"}, "event_type"),
        ("POST", "/v1/seen", {"user_id": "u", "item_id": "i", "timestamp": AT, "write_id": "w"}, "write_id"),
        ("POST", "/v1/seen", {"user_id": "u" * 129, "item_id": "i", "timestamp": AT}, "user_id"),
        ("DELETE", f"/v1/seen/{'u' * 129}", None, "user_id"),
        ("DELETE", "/v1/seen/a%00b", None, "user_id"),
    ],
)
async def test_faulty_requests_name_the_field(
    client: httpx.AsyncClient, method: str, path: str, body: object, field: str
) -> None:
    response = await client.request(method, path, json=body)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_redis_error_is_that_requests_alone(tmp_path: Path, open_app: Any) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    try:
        async with open_app(create_app(settings(server.url))) as client:
            assert (await click(client, "u", "a")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            server.stop()
            for response in (await unseen(client, "u", ["a"]), await click(client, "u", "b")):
                assert response.status_code == 503
                assert response.json()["type"] == "urn:cascade:problem:store-down"
                assert response.headers["retry-after"] == "1"
                assert str(server.port) not in response.text
            not_ready = await client.get("/readyz")
            assert not_ready.status_code == 503
            assert not_ready.json()["errors"][0]["field"] == "redis"
            assert str(server.port) not in not_ready.text
            server.start()
            assert (await unseen(client, "u", ["a", "b"])).json()["item_ids"] == ["b"]
            assert (await click(client, "u", "b")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
    finally:
        server.stop()


async def test_the_service_starts_without_its_store(open_app: Any) -> None:
    async with open_app(create_app(settings(f"redis://127.0.0.1:{free_port()}/0"))) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503


async def test_beyond_its_bounds_it_answers_429_and_recovers(redis_url: str, open_app: Any) -> None:
    app = create_app(settings(redis_url, redis_connections=1, queue_bound=1))
    async with open_app(app) as client:
        answers = await asyncio.gather(*(unseen(client, "u", ["a"]) for _ in range(20)))
        codes = {response.status_code for response in answers}
        assert codes == {200, 429}
        assert all(r.headers["retry-after"] == "1" for r in answers if r.status_code == 429)
        assert (await unseen(client, "u", ["a"])).status_code == 200


async def test_a_caller_without_time_gets_no_answer_and_writes_nothing(client: httpx.AsyncClient) -> None:
    event = {"user_id": "u", "item_id": "b", "timestamp": AT}
    write = await client.post("/v1/seen", json=event, headers={"x-deadline-ms": "0"})
    read = await client.post("/v1/filter", json={"user_id": "u", "item_ids": ["b"]}, headers={"x-deadline-ms": "0"})
    for answer in (write, read):
        assert answer.status_code == 504
        assert answer.json()["type"] == "urn:cascade:problem:deadline-spent"
    assert (await unseen(client, "u", ["b"])).json()["item_ids"] == ["b"]
