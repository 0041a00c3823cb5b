"""The page's picker and what it is told of a user, over a real Redis and Feast's format."""

from __future__ import annotations

import asyncio
import contextlib
import time

import orjson
import pytest
from pydantic import SecretStr
from redis import Redis

from cascade.api.common import UserFeatures
from cascade.online.errors import OnlineStoreDown
from cascade.online.feast_rows import ViewRows, write_rows
from cascade.online.interactions import Event, Interactions, RecentItem
from cascade.online.known_users import Found
from services.gateway.storefront.users import Users


@pytest.fixture
def open_storefront(open_gateway, redis_url, feast_registry, model_store):
    """A gateway with the page, on a Redis that knows three users."""
    with Redis.from_url(redis_url) as redis:
        names = ["anna", "anna/2", "bob"]
        moments = [int(time.time() * 1e6)] * 3
        write_rows(redis, ViewRows("user_profile", names, moments, {"age": [30, 40, None], "gender": ["F", "F", "M"]}))
        write_rows(redis, ViewRows("user_activity", names, moments, {"top_category": ["shoes", None, None]}))
    return lambda **changes: open_gateway(
        storefront=True,
        redis_url=SecretStr(redis_url),
        redis_timeout_ms=20_000,
        features_timeout_ms=20_000,
        deadline_ms=60_000,
        feast_registry=feast_registry,
        **changes,
    )


async def test_users_are_found(open_storefront):
    async with open_storefront() as client:
        everyone = (await client.get("/v1/users")).json()
        assert {user["user_id"] for user in everyone["users"]} <= {"anna", "anna/2", "bob"}
        assert everyone["users"]
        found = (await client.get("/v1/users", params={"query": "anna"})).json()
        assert [user["user_id"] for user in found["users"]] == ["anna", "anna/2"]
        assert found["users"][0] == {"user_id": "anna", "age": 30.0, "gender": "F", "top_category": "shoes"}
        assert found["complete"]
        for nobody in ("zoe", "*", "[a-z]"):
            assert (await client.get("/v1/users", params={"query": nobody})).json()["users"] == []


async def test_what_is_known_of_a_user(open_storefront, redis_url, now):
    async with open_storefront() as client:
        from redis.asyncio import Redis as AsyncRedis

        async with AsyncRedis.from_url(redis_url) as redis:
            await Interactions(redis).record(Event("anna/2", "item-04", now, "click"))
        profile = (await client.get("/v1/users/anna%2F2")).json()
        assert profile["known"]
        assert profile["features"]["age"] == 40
        assert [(one["item_id"], one["title"]) for one in profile["recent"]] == [("item-04", "Crème shoe 4")]
        stranger = (await client.get("/v1/users/nobody")).json()
        assert (stranger["known"], stranger["recent"]) == (False, [])


async def test_without_the_setting_nobody_can_ask_for_users(client):
    for path in ("/v1/users", "/v1/users/anna", "/v1/users/anna/events"):
        assert (await client.get(path)).status_code in (307, 404, 405)  # 307: to the path with a slash
    assert (await client.post("/v1/explanations", json={"user_id": "a", "item_id": "item-01"})).status_code == 404


class Store:
    """Features and recent items of one user."""

    def __init__(self) -> None:
        self.features: UserFeatures | None = None
        self.items: list[RecentItem] = []
        self.down = False

    async def get(self, user_id: str) -> UserFeatures | None:
        if self.down:
            raise OnlineStoreDown("no answer")
        return self.features

    async def recent(self, user_id: str, count: int) -> list[RecentItem]:
        return self.items[:count]

    async def some(self, count: int) -> Found:
        return Found([], True)

    async def search(self, part: str, count: int) -> Found:
        return Found([], True)


async def test_changes_are_told_once_each():
    store = Store()
    watch = Users(store, store, store).watch("u")

    async def told():
        return [event.name for event in await watch.poll()]

    assert await told() == ["hello"]
    assert await told() == []
    store.items = [RecentItem(1, "click", "i1")]
    assert await told() == ["interactions"]
    store.features = UserFeatures(user_id="u", top_category="shoes")
    (event,) = await watch.poll()
    assert event.name == "features"
    assert (event.data["before"]["top_category"], event.data["features"]["top_category"]) == (None, "shoes")
    store.down = True
    assert await told() == ["unavailable"]
    assert await told() == []
    store.down, store.items = False, []
    assert await told() == ["available", "interactions"]


async def test_a_page_is_told_over_http(open_gateway, model_store):
    async with open_gateway(storefront=True) as client:
        app = client._transport.app
        store = Store()
        app.state.gateway.users.__init__(store, store, store)
        told: asyncio.Queue[bytes] = asyncio.Queue()

        async def send(message):
            if message["type"] == "http.response.body":
                await told.put(message.get("body", b""))

        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        scope = {
            "type": "http", "method": "GET", "path": "/v1/users/u/events", "raw_path": b"/v1/users/u/events",
            "query_string": b"", "headers": [], "scheme": "http", "server": ("gateway", 80), "client": ("here", 1),
            "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.3"},
        }  # fmt: skip
        stream = asyncio.create_task(app(scope, receive, send))
        async with asyncio.timeout(30):
            assert (await told.get()).startswith(b"retry: ")
            assert (await told.get()).startswith(b"event: hello\n")
            assert app.state.gateway.streams.open == 1
            store.items = [RecentItem(1, "click", "i1")]
            event = await told.get()
            assert event.startswith(b"event: interactions\ndata: ")
            assert orjson.loads(event.split(b"data: ")[1])["newest"]["item_id"] == "i1"
            gone.set()
            with contextlib.suppress(asyncio.CancelledError):
                await stream
        assert app.state.gateway.streams.open == 0


async def test_streams_are_bounded(open_gateway, model_store):
    async with open_gateway(storefront=True, max_event_streams=1) as client:
        streams = client._transport.app.state.gateway.streams
        with streams.counted():
            refused = await client.get("/v1/users/u/events")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "5"
