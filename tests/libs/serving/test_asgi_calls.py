"""Calls inside one process reach the app as calls over TCP do."""

import asyncio

import pytest
from fastapi import FastAPI, HTTPException, Request

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
