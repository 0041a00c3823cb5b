"""What both clients send, what they make of answers, and when they ask again; the network is a function."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.client import (
    ApiError,
    AsyncClient,
    Client,
    ClientError,
    Conflict,
    Event,
    Garbled,
    GatewayFault,
    InteractionRequest,
    InvalidAddress,
    InvalidId,
    InvalidRequest,
    NoAnswer,
    NotAllowed,
    NotFound,
    Overloaded,
    Patience,
    RecommendationRequest,
    Unavailable,
)
from cascade.client.answers import retry_after_s
from cascade.errors import CascadeError

Handler = Callable[[httpx.Request], httpx.Response]
Ask = Callable[..., Any]
QUICK = Patience(timeout_s=5, deadline_s=5, first_wait_s=0.001, longest_wait_s=0.002)
FACETS = {"items": 3, "categories": [], "genders": [], "min_price": None, "max_price": None}
ITEM = {
    "item_id": "i",
    "title": "Red shoe",
    "description": "",
    "category_l1": "shoes",
    "category_l2": "running",
    "price": 1.5,
    "gender": None,
    "image": None,
}


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls a method of a client that is answered by a function."""

    def asked(handler: Handler, method: str, *arguments: Any, options: Any = None, **fields: Any) -> Any:
        given_options = {"patience": QUICK, "transport": httpx.MockTransport(handler), **(options or {})}
        if request.param == "sync":
            with Client("http://shop", **given_options) as client:
                return getattr(client, method)(*arguments, **fields)

        async def run() -> Any:
            async with AsyncClient("http://shop", **given_options) as client:
                return await getattr(client, method)(*arguments, **fields)

        return asyncio.run(run())

    return asked


class Answers:
    """Gives one answer after the other, the last one again and again; keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        try:
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        except httpx.ResponseNotRead:  # a stream, for one reader
            return answer


def problem(status: int, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"type": "urn:cascade:problem:a-kind", "title": "A title", "status": status, "instance": "/", **more}
    return httpx.Response(status, json=body, headers={"x-request-id": "r-1", **(headers or {})})


def facets(**more: Any) -> httpx.Response:
    return httpx.Response(200, json={**FACETS, **more})


def test_what_was_not_said_is_not_sent(ask: Ask) -> None:
    answers = Answers(problem(404))
    request = RecommendationRequest(user_id="u", mmr_lambda=0.5, explain=True)
    with pytest.raises(NotFound):
        ask(answers, "recommend", request, tracks={"ranker": "canary", "retrieval": "stable"})
    (sent,) = answers.asked
    assert (sent.method, sent.url.path) == ("POST", "/v1/recommendations")
    assert json.loads(sent.content) == {"user_id": "u", "mmr_lambda": 0.5, "explain": True}
    assert sent.headers["x-cascade-track"] == "ranker=canary, retrieval=stable"
    assert sent.headers["content-type"] == "application/json"

    answers = Answers(httpx.Response(200, json={"items": [ITEM], "total": 1, "offset": 0, "limit": 24}))
    page = ask(answers, "items", category_l1="shoes", min_price=1.5, q="red")
    assert page.items[0].title == "Red shoe"
    assert dict(answers.asked[0].url.params) == {
        "category_l1": "shoes", "min_price": "1.5", "q": "red", "offset": "0", "limit": "24",
    }  # fmt: skip


def test_the_key_goes_with_every_call(ask: Ask) -> None:
    answers = Answers(problem(409))
    options = {"api_key": "a key of sixteen", "headers": {"x-shop": "7"}}
    for method, arguments in (("promote", ("ranker", "v1")), ("rollback", ("ranker",)), ("models", ())):
        with pytest.raises(Conflict):
            ask(answers, method, *arguments, options=options)
    assert [one.headers.get("authorization") for one in answers.asked] == ["Bearer a key of sixteen"] * 3
    assert json.loads(answers.asked[0].content) == {"version": "v1"}
    assert {one.headers["x-shop"] for one in answers.asked} == {"7"}


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() or "/" in text))
def test_any_id_is_one_part_of_the_path(user_id: str) -> None:
    if "\x00" in user_id or any("\ud800" <= one <= "\udfff" for one in user_id):
        return
    answers = Answers(problem(404))
    transport = httpx.MockTransport(answers)
    with Client("http://shop", patience=QUICK, transport=transport) as client, pytest.raises((NotFound, InvalidId)):
        client.forget_history(user_id)
    assert answers.asked[0].url.path == f"/v1/users/{user_id}/history"
    assert answers.asked[0].url.raw_path.count(b"/") == 4


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "", "ftp://shop", "http://", "http://shop:many", "/v1"])
def test_what_is_no_address_is_told_at_once(address: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(InvalidAddress, match="give one like http://127"):
            client(address)


def test_ids_that_are_another_call_are_refused(ask: Ask) -> None:
    answers = Answers(problem(404))
    for method, bad in (("forget_user", "u/history"), ("user", "a/events"), ("item", "i/similar"), ("item", "")):
        with pytest.raises(InvalidId, match="id"):
            ask(answers, method, bad)
    assert answers.asked == []
    with pytest.raises(NotFound):
        ask(answers, "user", "..")
    assert answers.asked[0].url.raw_path == b"/v1/users/%2E%2E"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest), (401, NotAllowed), (403, NotAllowed), (404, NotFound), (409, Conflict),
        (413, InvalidRequest), (422, InvalidRequest), (429, Overloaded), (500, GatewayFault), (502, GatewayFault),
        (503, Unavailable), (418, ApiError),
    ],
)  # fmt: skip
def test_a_problem_is_an_error_of_its_kind(ask: Ask, status: int, kind: type[ApiError]) -> None:
    fault = {"field": "k", "message": "too big", "value": 101}
    answer = problem(status, {"retry-after": "30"}, detail="1 field(s) at fault.", errors=[fault], extra="of a proxy")
    with pytest.raises(kind) as raised:
        ask(Answers(answer), "facets")
    error = raised.value
    assert type(error) is kind
    assert isinstance(error, ClientError)
    assert isinstance(error, CascadeError)
    assert (error.status, error.title, error.kind, error.request_id) == (status, "A title", "a-kind", "r-1")
    assert (error.errors[0].field, error.errors[0].value, error.retry_after_s) == ("k", 101, 30)
    assert str(error) == f"the gateway answered {status}: 1 field(s) at fault. k: too big"


def test_what_is_no_problem_is_told_too(ask: Ask) -> None:
    page = httpx.Response(502, text="<html>" + "no gateway " * 100)
    with pytest.raises(GatewayFault) as raised:
        ask(Answers(page), "facets", options={"patience": Patience(deadline_s=0)})
    assert (raised.value.title, raised.value.kind) == ("Bad Gateway", None)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.Response(200, text="<html>"), "is no Facets: Invalid JSON"),
        (httpx.Response(200, json={**FACETS, "items": "many"}), "is no Facets: items: "),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), "was answered 302 where 200 is the answer"),
        (httpx.Response(204), "was answered 204 where 200 is the answer"),
    ],
)
def test_an_answer_of_something_else_is_garbled(ask: Ask, answer: httpx.Response, sentence: str) -> None:
    answers = Answers(answer)
    with pytest.raises(Garbled, match=sentence):
        ask(answers, "facets")
    assert len(answers.asked) == 1


def test_fields_of_a_newer_gateway_are_left_out(ask: Ask) -> None:
    children = [{"name": "a", "items": 1, "colour": "red"}]
    newer = facets(season="spring", categories=[{"name": "c", "items": 1, "children": children, "icon": "x"}])
    assert ask(Answers(newer), "facets").categories[0].children[0].model_dump() == {"name": "a", "items": 1}


@pytest.mark.parametrize(
    "first",
    [
        problem(429), problem(503), httpx.Response(502), httpx.Response(504),
        httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("broken off"),
    ],
)  # fmt: skip
def test_what_may_pass_is_asked_again(ask: Ask, first: httpx.Response | Exception) -> None:
    answers = Answers(first, first, facets())
    assert ask(answers, "facets").items == 3
    assert len(answers.asked) == 3


@pytest.mark.parametrize("answer", [problem(500), problem(404), problem(422)])
def test_what_will_not_pass_is_not(ask: Ask, answer: httpx.Response) -> None:
    answers = Answers(answer)
    with pytest.raises(ApiError):
        ask(answers, "facets")
    assert len(answers.asked) == 1


@pytest.mark.parametrize("answer", [problem(429, {"retry-after": "0"}), problem(503), httpx.ReadError("broken off")])
def test_what_cannot_be_repeated_is_sent_once(ask: Ask, answer: httpx.Response | Exception) -> None:
    for method, arguments in (
        ("interact", (InteractionRequest(user_id="u", item_id="i"),)),
        ("promote", ("ranker", "v")),
        ("rollback", ("ranker",)),
    ):
        answers = Answers(answer)
        with pytest.raises((ApiError, NoAnswer)):
            ask(answers, method, *arguments)
        assert len(answers.asked) == 1


def test_it_waits_as_long_as_it_is_told(ask: Ask) -> None:
    began = time.monotonic()
    assert ask(Answers(problem(429, {"retry-after": "1"}), facets()), "facets").items == 3
    assert time.monotonic() - began >= 1


def test_a_wait_beyond_the_deadline_is_not_begun(ask: Ask) -> None:
    answers = Answers(problem(503, {"retry-after": "60"}))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        ask(answers, "facets")
    assert time.monotonic() - began < QUICK.deadline_s
    assert len(answers.asked) == 1


def test_tries_end_with_the_deadline_and_each_has_what_is_left(ask: Ask) -> None:
    answers = Answers(httpx.ConnectError("refused"))
    patience = Patience(timeout_s=5, deadline_s=0.3, first_wait_s=0.02, longest_wait_s=0.05)
    with pytest.raises(NoAnswer, match="is a gateway there"):
        ask(answers, "facets", options={"patience": patience})
    limits = [one.extensions["timeout"]["read"] for one in answers.asked]
    assert len(limits) > 2
    assert limits == sorted(limits, reverse=True)
    assert 0 < limits[-1] < limits[0] <= 0.3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7), ("0", 0), ("-3", 0), ("1.5", 1.5), ("soon", None), ("inf", None), ("nan", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_as_a_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < (retry_after_s(format_datetime(moment, usegmt=True)) or 0) <= 90
    assert retry_after_s(format_datetime(moment - timedelta(days=1), usegmt=True)) == 0


STREAM = 'retry: 1000\n\n:\n\nevent: hello\ndata: {}\n\nevent: features\ndata: {"known":\ndata: true}\n\ndata: 1\n\n'


def listen(kind: str, handler: Handler, method: str, *arguments: Any) -> list[Event]:
    transport = httpx.MockTransport(handler)
    if kind == "sync":
        with Client("http://shop", transport=transport) as client, getattr(client, method)(*arguments) as events:
            return list(events)

    async def run() -> list[Event]:
        async with (
            AsyncClient("http://shop", transport=transport) as client,
            getattr(client, method)(*arguments) as events,
        ):
            return [event async for event in events]

    return asyncio.run(run())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_streams(kind: str) -> None:
    def broken() -> Any:
        yield b'event: sample\ndata: {"a": 1}\n\n'
        raise httpx.ReadError("broken off")

    answers = Answers(httpx.Response(200, text=STREAM))
    expected = [Event("hello", {}), Event("features", {"known": True}), Event("message", 1)]
    assert listen(kind, answers, "user_events", "u/1") == expected
    assert answers.asked[0].url.raw_path == b"/v1/users/u%2F1/events"
    with pytest.raises(Garbled, match="no JSON"):
        listen(kind, Answers(httpx.Response(200, text="data: {\n\n")), "live")
    with pytest.raises(Overloaded):
        listen(kind, Answers(problem(429)), "live")
    with pytest.raises(NoAnswer):
        listen(kind, Answers(httpx.ConnectError("refused")), "live")
    if kind == "sync":
        with pytest.raises(NoAnswer, match="broken off"):
            listen(kind, Answers(httpx.Response(200, content=broken())), "live")


def test_an_error_of_the_readers_own_stays_its_own() -> None:
    transport = httpx.MockTransport(Answers(httpx.Response(200, text=STREAM)))
    with (
        pytest.raises(httpx.ReadError, match="another connection"),
        Client("http://shop", transport=transport) as client,
        client.live(),
    ):
        raise httpx.ReadError("another connection")
