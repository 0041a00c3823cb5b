"""Who may ask the gateway what: scopes, rotation, rates, and nothing of a key in any log or answer."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from cascade.access.api_keys import KeyFile, Scope, make_key
from cascade.access.errors import KeyFileUnreadable
from services.gateway.access import scope_of
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

TOKEN = "0123456789abcdef-of-these-tests"
RECOMMEND = {"user_id": "known", "k": 3}
CLICK = {"user_id": "known", "item_id": "item-01", "event_type": "click"}


def bearer(text):
    return {"authorization": f"Bearer {text}"}


@pytest.fixture
def keys(tmp_path):
    """The file, and the text of one key a scope."""
    file = KeyFile(tmp_path / "keys.json")
    texts = {}
    for scope in Scope:
        texts[scope], key = make_key(f"for {scope}", [scope])
        file.add(key)
    return file, texts


def api_routes(app):
    """(method, path with parameters filled) of every route of the API and operations."""
    routes = []
    for route in app.routes:  # FastAPI keeps a router that was included as it is
        included = getattr(route, "original_router", None)
        routes += [route] if included is None else included.routes
    for route in routes:
        for method in getattr(route, "methods", None) or ():
            if method != "HEAD":
                yield (
                    method,
                    route.path.replace("{user_id:path}", "u/1")
                    .replace("{item_id:path}", "i1")
                    .replace("{service}", "ranker")
                    .replace("{receipt}", "0123456789abcdef"),
                )


SCOPES = {
    ("POST", "/v1/recommendations"): "recommend",
    ("POST", "/v1/interactions"): "interact",
    ("GET", "/v1/items"): "recommend",
    ("GET", "/v1/items/i1"): "recommend",
    ("GET", "/v1/items/i1/similar"): "recommend",
    ("GET", "/v1/popular"): "recommend",
    ("GET", "/v1/facets"): "recommend",
    ("DELETE", "/v1/users/u/1/history"): "interact",
    ("DELETE", "/v1/users/u/1"): "admin",
    ("GET", "/v1/forgettings/0123456789abcdef"): "admin",
    ("GET", "/v1/users"): "admin",
    ("GET", "/v1/users/u/1"): "admin",
    ("GET", "/v1/users/u/1/events"): "admin",
    ("POST", "/v1/explanations"): "admin",
    ("GET", "/v1/live"): "admin",
    ("GET", "/v1/models"): "admin",
    ("POST", "/v1/models/ranker/promote"): "admin",
    ("POST", "/v1/models/ranker/rollback"): "admin",
    ("GET", "/v1/info"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/"): None,
    ("GET", "/storefront/models"): None,
    ("GET", "/storefront/live"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/docs"): None,
    ("GET", "/docs/oauth2-redirect"): None,
    ("GET", "/redoc"): None,
}


def test_every_route_has_the_scope_that_it_should(settings):
    routes = set(api_routes(create_app(settings.model_copy(update={"storefront": True}))))
    assert {
        ("POST", "/v1/recommendations"),
        ("DELETE", "/v1/users/u/1"),
        ("POST", "/v1/models/ranker/promote"),
    } < routes
    told = {route: scope_of(*route) for route in routes if route[1] != "/metrics"}
    assert {route: None if scope is None else str(scope) for route, scope in told.items()} == {
        route: SCOPES.get(route, "no row in this test's table") for route in told
    }


def test_what_nobody_thought_of_is_closed():
    assert scope_of("GET", "/v1/whatever") == "admin"
    assert scope_of("PATCH", "/v1/recommendations") == "admin"
    assert scope_of("GET", "/storefront") == "admin"


async def test_scopes(model_store, open_gateway, keys):
    file, texts = keys
    async with open_gateway(require_keys=True, storefront=True, api_keys_file=file.path) as client:
        for method, path in SCOPES:
            if path.endswith(("/events", "/live")):  # they stream without end
                continue
            wanted = SCOPES[method, path]
            for scope, text in {**texts, None: None, "wrong": make_key("x", ["admin"])[0]}.items():
                answer = await client.request(method, path, headers={} if text is None else bearer(text))
                if wanted is None:
                    assert answer.status_code == 200, path
                elif scope in (None, "wrong"):
                    assert (answer.status_code, answer.json()["type"]) == (401, "urn:cascade:problem:unauthorized")
                elif scope != wanted:
                    assert (answer.status_code, answer.json()["type"]) == (403, "urn:cascade:problem:forbidden")
                else:
                    assert answer.status_code not in (401, 403), (method, path)
                assert text is None or text not in answer.text
        assert (await client.get("/v1/info")).json() == {"profile": "local", "api_keys": "required"}


async def test_keys_are_rotated_without_a_restart(model_store, open_gateway, keys):
    file, texts = keys
    new, kept = make_key("the next", [Scope.recommend])

    async def status(client, text):
        return (await client.post("/v1/recommendations", json=RECOMMEND, headers=bearer(text))).status_code

    async def until(client, text, wanted):
        async with asyncio.timeout(10):
            while await status(client, text) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with open_gateway(require_keys=True, api_keys_file=file.path, api_keys_poll_s=0.01) as client:
        old = texts[Scope.recommend]
        assert (await status(client, old), await status(client, new)) == (200, 401)
        file.add(kept)
        await until(client, new, 200)
        assert await status(client, old) == 200
        file.revoke(old.split("_")[1])
        await until(client, old, 401)
        assert await status(client, new) == 200
        file.path.write_text("{")  # a slip: those known so far go on
        async with asyncio.timeout(10):
            while "unreadable 1.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await status(client, new) == 200


async def test_in_a_trial_no_key_is_needed_but_a_wrong_one_is_told(model_store, open_gateway, capfd):
    async with open_gateway(log_level="warning") as client:
        assert (await client.post("/v1/recommendations", json=RECOMMEND)).status_code == 200
        wrong = await client.post("/v1/recommendations", json=RECOMMEND, headers=bearer("cascade_00000000_x"))
        assert wrong.status_code == 401
        assert (await client.post("/v1/models/ranker/rollback")).status_code == 401
        assert (await client.get("/v1/info")).json() == {"profile": "local", "api_keys": "off"}
    assert "requests need no API key" in capfd.readouterr().out


async def test_no_key_is_logged(model_store, open_gateway, keys, capfd):
    file, texts = keys
    async with open_gateway(require_keys=True, api_keys_file=file.path) as client:
        for text in (*texts.values(), "cascade_00000000_a-wrong-secret"):
            await client.post("/v1/recommendations", json=RECOMMEND, headers=bearer(text))
            await client.get("/v1/users/x", headers=bearer(text))
    log = capfd.readouterr().out
    assert f'"api_key":"{texts[Scope.recommend].split("_")[1]}"' in log
    for text in (*texts.values(), "a-wrong-secret"):
        assert text.split("_", 2)[-1] not in log


async def test_a_key_has_its_rate_over_all_gateways(model_store, open_gateway, keys, redis_url):
    file, _ = keys
    text, key = make_key("guest", [Scope.recommend], rate=1, burst=20)
    file.add(key)
    options = {"require_keys": True, "api_keys_file": file.path, "redis_url": SecretStr(redis_url)}
    async with open_gateway(**options) as one, open_gateway(**options) as other:
        answers = await asyncio.gather(
            *(client.post("/v1/recommendations", json=RECOMMEND, headers=bearer(text)) for client in [one, other] * 15)
        )
        assert 19 <= sum(answer.status_code == 200 for answer in answers) <= 22
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["type"] == "urn:cascade:problem:rate-limited"
        assert int(refused.headers["retry-after"]) >= 1
        page = (await one.get("/metrics")).text
        assert f'cascade_rate_limited_total{{key="{key.id}"}}' in page


async def test_without_redis_keys_are_counted_here_and_that_is_told(model_store, open_gateway, keys):
    file, _ = keys
    text, key = make_key("guest", [Scope.recommend], rate=1, burst=4)
    file.add(key)
    async with open_gateway(require_keys=True, api_keys_file=file.path) as client:
        answers = [await client.post("/v1/recommendations", json=RECOMMEND, headers=bearer(text)) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 3
        assert "cascade_rate_counted_alone_total 4.0" in (await client.get("/metrics")).text


async def test_services_are_sent_the_token(model_store, open_gateway, services):
    async with open_gateway(internal_token=SecretStr(TOKEN)) as client:
        await client.post("/v1/recommendations", json=RECOMMEND)
        await client.post("/v1/interactions", json=CLICK)
    asked = [request for request in services.requests if request.url.path != "/readyz"]
    assert len(asked) >= 4
    assert all(request.headers["authorization"] == f"Bearer {TOKEN}" for request in asked)


async def test_pages_allow_no_script_of_others(model_store, open_gateway):
    for storefront, paths in ((False, ["/"]), (True, ["/", "/storefront/models", "/storefront/live"])):
        async with open_gateway(storefront=storefront) as client:
            for path in paths:
                page = await client.get(path)
                policy = page.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "unsafe-inline" not in policy
                assert page.headers["x-content-type-options"] == "nosniff"
                assert page.headers["x-frame-options"] == "DENY"
                assert "<script>" not in page.text
                assert " on" + "click=" not in page.text


SAFE = {"profile": "production", "internal_token": TOKEN, "redis_url": "redis://:p4ss@redis:6379/0"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "api_keys_file is missing"),
        ({"api_keys_file": "keys.json", "storefront": True}, "storefront"),
        ({"api_keys_file": "keys.json", "cors_origins": ["*"]}, "cors_origins"),
        ({"api_keys_file": "keys.json", "internal_token": None}, "internal_token is missing"),
        ({"api_keys_file": "keys.json", "redis_url": "redis://redis:6379/0"}, "redis_url names no password"),
    ],
)
def test_production_refuses_what_is_unsafe(values, told):
    with pytest.raises(ValidationError, match=told) as error:
        GatewaySettings(_env_file=None, **{**SAFE, **values})
    assert "p4ss" not in str(error.value)
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize("content", [None, '{"keys": []}'])
async def test_where_keys_are_needed_there_must_be_one(model_store, open_gateway, tmp_path, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeyFileUnreadable):
        async with open_gateway(require_keys=True, api_keys_file=path):
            pass


async def test_production(model_store, open_gateway, settings, keys):
    file, texts = keys
    async with open_gateway(profile="production", internal_token=SecretStr(TOKEN), api_keys_file=file.path) as client:
        assert (await client.post("/v1/recommendations", json=RECOMMEND)).status_code == 401
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=bearer(texts[Scope.admin]))).status_code == 401
        assert (await client.get("/metrics", headers=bearer(TOKEN))).status_code == 200
        assert (await client.get("/docs")).status_code == 404
        ok = await client.post("/v1/recommendations", json=RECOMMEND, headers=bearer(texts[Scope.recommend]))
        assert ok.status_code == 200
        assert isinstance(ok, httpx.Response)
