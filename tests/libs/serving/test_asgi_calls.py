"""Calls inside one process reach the app as calls over TCP do."""

import asyncio

import pytest
from fastapi import FastAPI, HTTPException, Request

from cascade import deadline
from cascade.serving.asgi_calls import AsgiCaller
from cascade.serving.calls import CallLate


@pytest.fixture
def caller():
    app = FastAPI()

    @app.post("/v1/echo/{name:path}")
    async def echo(name: str, request: Request):
        return {"name": name, "body": (await request.body()).decode(), "id": request.headers.get("x-request-id")}

    @app.get("/busy")
    async def busy():
        raise HTTPException(429, headers={"Retry-After": "3"})

    @app.get("/slow")
    async def slow():
        await asyncio.sleep(3600)

    return AsgiCaller(app)


async def test_what_is_sent_arrives(caller):
    answer = await caller.call("POST", "/v1/echo/a%2Fb%20c", b"hello", {"x-request-id": "r"}, 5.0)
    assert answer.is_success
    assert answer.body == b'{"name":"a/b c","body":"hello","id":"r"}'
    assert answer.headers["content-type"] == "application/json"


async def test_refusals_are_answers(caller):
    answer = await caller.call("GET", "/busy", b"", {}, 5.0)
    assert (answer.status, answer.is_success, answer.headers["retry-after"]) == (429, False, "3")


async def test_a_late_answer(caller):
    with pytest.raises(CallLate):
        await caller.call("GET", "/slow", b"", {}, 0.02)


async def test_a_call_tells_how_much_time_it_has():
    told = []

    async def app(scope, receive, send):
        deadline.begin(scope["headers"])
        told.append(deadline.left_s())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await AsgiCaller(app).call("GET", "/x", b"", {}, 2.0)
    assert 1 < told[0] <= 2
