"""What JSON leaves open is refused at the door, on both kinds of routes, with problem details."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.responses import Response

from cascade.serving.app import create_service_app
from cascade.serving.hot import Hot
from cascade.serving.responses import JsonResponse
from cascade.serving.settings import ServiceSettings
from cascade.serving.strict_json import check, strict_body

LOOSE = {
    "the key 'name' stands twice": b'{"name": "a", "name": "b"}',
    "the key 'x' stands twice": b'{"name": "a", "more": [{"x": 1, "x": 1}]}',
    "NaN is no JSON number": b'{"name": "a", "share": NaN}',
    "-Infinity is no JSON number": b'{"name": "a", "share": -Infinity}',
    "it is not UTF-8 (byte 10)": b'{"name": "\xff"}',
    "half a character": b'{"name": "\\ud800"}',
    "it is not UTF-8": '{"name": "a"}'.encode("utf-16-le"),
}
NO_JSON = {
    "cut": b'{"name": ',
    "empty": b"",
    "too deep": b"[" * 100_000,
    "deep within": b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge integer": b'{"name": "a", "share": 1' + b"0" * 100_000 + b"}",
    "UTF-16": b"\xff\xfe" + '{"name": "a"}'.encode("utf-16-le"),
}


class Body(BaseModel):
    name: str
    share: float = 0.5
    more: list[dict[str, int]] = []


async def hot(body: Body, request: Request) -> Response:
    return JsonResponse({"name": body.name})


async def plain(body: Body) -> Response:
    return JsonResponse({"name": body.name})


def app() -> FastAPI:
    router = APIRouter(dependencies=[Depends(strict_body)])
    router.post("/hot")(hot)
    router.post("/plain")(plain)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    return create_service_app("demo", ServiceSettings(), lifespan, [router], hot=[Hot(hot, strict=True)])


@pytest.fixture
async def client(open_app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with open_app(app()) as client:
        yield client


async def send(client: httpx.AsyncClient, path: str, body: bytes) -> httpx.Response:
    return await client.post(path, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize("path", ["/hot", "/plain"])
@pytest.mark.parametrize("why", LOOSE)
async def test_loose_json_is_refused_and_told_why(client: httpx.AsyncClient, path: str, why: str) -> None:
    answer = await send(client, path, LOOSE[why])
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    if (
        "UTF-8" not in why and why != "half a character"
    ):  # before this is asked, a parser may have told it in its own words
        assert why in answer.json()["errors"][0]["message"], "what is at fault"


@pytest.mark.parametrize("path", ["/hot", "/plain"])
@pytest.mark.parametrize("what", NO_JSON)
async def test_what_is_no_json_is_a_problem_and_no_defect(client: httpx.AsyncClient, path: str, what: str) -> None:
    answer = await send(client, path, NO_JSON[what])
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 3000


@pytest.mark.parametrize("path", ["/hot", "/plain"])
async def test_what_is_plain_passes(client: httpx.AsyncClient, path: str) -> None:
    answer = await send(client, path, '{"name": "naïve", "more": [{"x": 1}, {"x": 1}]}'.encode())
    assert (answer.status_code, answer.json()) == (200, {"name": "naïve"})


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(values)
def test_everything_that_json_can_say_passes(value: object) -> None:
    check(json.dumps(value).encode())


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), min_size=1), st.integers())
def test_any_key_that_stands_twice_is_found(value: dict[str, int], other: int) -> None:
    name = next(iter(value))
    body = json.dumps(value)[:-1] + f", {json.dumps(name)}: {other}}}"
    with pytest.raises(RequestValidationError):
        check(f'{{"deep": [{body}]}}'.encode())
