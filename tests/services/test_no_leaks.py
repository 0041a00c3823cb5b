"""A defect in a service tells its caller nothing of the inside: no traceback, no path, no address, no name of code."""

import re
from importlib import import_module
from pathlib import Path

import httpx
import pytest

_HERE = re.escape(str(Path(__file__).parents[2]))
LEAKS = re.compile(
    rf"{_HERE}|"
    r"Traceback|File \"|\.py\b|/home/|/tmp/|/usr/|site-packages|AttributeError|State|object at 0x|127\.0\.0\.1|redis://"
)
USER = {"user_id": "u", "age": None, "gender": None, "top_category": None}
CONTEXT = {"device_type": "mobile", "timestamp": 1_767_600_000}
VALID = {
    "gateway": {
        "/v1/recommendations": {"user_id": "u"},
        "/v1/interactions": {"user_id": "u", "item_id": "i", "event_type": "click"},
    },
    "retrieval": {"/v1/retrieve": {"user": USER, "context": CONTEXT, "k": 5}},
    "filter": {
        "/v1/filter": {"user_id": "u", "item_ids": ["i"]},
        "/v1/seen": {"user_id": "u", "item_id": "i", "timestamp": 1},
    },
    "ranker": {"/v1/rank": {"user": USER, "context": CONTEXT, "item_ids": ["i"], "k": 1}},
}


@pytest.mark.parametrize("service", [*VALID, "features"])
async def test_a_defect_tells_nothing(service):
    settings = getattr(import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings")
    app = import_module(f"services.{service}.app").create_app(settings(_env_file=None))
    # The lifespan never ran: whatever a route needs is not there, which is a defect like any other.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    statuses = []
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path, body in VALID.get(service, {}).items():
            for answer in (
                await client.post(path, json=body),
                await client.post(path, content=b"\xff not JSON"),
                await client.post(path, json={"what": [["is"] * 3, {"this": "?"}]}),
                await client.get(path),
            ):
                statuses.append(answer.status_code)
                assert answer.headers["content-type"] == "application/problem+json"
                assert LEAKS.search(answer.text) is None, answer.text
        for path in ("/readyz", "/nothing/here", "/v1/users/%2e%2e%2fetc", "/v1/../../etc/passwd"):
            answer = await client.get(path)
            statuses.append(answer.status_code)
            assert LEAKS.search(answer.text) is None, answer.text
    assert {500, 503} & set(statuses), "nothing was provoked"
