"""Every way a service can fail has its name."""

import asyncio

import httpx
import pytest

from cascade.api.common import StageTiming, UserFeatures
from cascade.api.filter import FilterRequest, FilterResponse, SeenRequest
from cascade.api.ranker import RankRequest
from cascade.api.retrieval import RetrieveResponse, SimilarRequest
from services.gateway.clients import FilterClient, RankerClient, RetrievalClient, ServiceClient
from services.gateway.ports import (
    StageBusy,
    StageDown,
    StageError,
    StageGarbled,
    StageLate,
    StageRefused,
)

REQUEST = FilterRequest(user_id="u", item_ids=["a"])


def service(handler, stage="filter", timeout_s=5.0):
    return ServiceClient(
        stage, "http://service", timeout_s, lambda: {"x-request-id": "req-1"}, httpx.MockTransport(handler)
    )


def answering(status, text="{}", headers=None):
    return lambda request: httpx.Response(status, text=text, headers=headers)


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (answering(500), StageDown),
        (answering(503), StageDown),
        (answering(429, headers={"retry-after": "7"}), StageBusy),
        (answering(422), StageRefused),
        (answering(404), StageRefused),
        (answering(307), StageDown),
        (answering(200, "not json"), StageGarbled),
        (answering(200, '{"item_ids": "a"}'), StageGarbled),
    ],
)
async def test_answers_that_are_none(handler, error):
    with pytest.raises(error) as raised:
        await FilterClient(service(handler), 1.0).unseen(REQUEST)
    assert raised.value.stage == "filter"
    if error is StageBusy:
        assert raised.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (httpx.ConnectError("refused"), StageDown),
        (httpx.ReadError("reset"), StageDown),
        (OSError("no route"), StageDown),
        (httpx.ReadTimeout("slow"), StageLate),
        (httpx.PoolTimeout("no connection free"), StageLate),
    ],
)
async def test_failures_of_the_network(failure, error):
    def handler(request):
        raise failure

    with pytest.raises(error):
        await FilterClient(service(handler), 1.0).unseen(REQUEST)


async def test_a_call_has_one_deadline():
    async def never(request):
        await asyncio.sleep(3600)

    with pytest.raises(StageLate):
        await FilterClient(service(never, timeout_s=0.01), 1.0).unseen(REQUEST)
    with pytest.raises(StageLate):
        await FilterClient(service(never), 0.01).seen(SeenRequest(user_id="u", item_id="a", timestamp=1))


async def test_the_request_id_travels():
    def handler(request):
        assert request.headers["x-request-id"] == "req-1"
        assert request.headers["content-type"] == "application/json"
        answer = FilterResponse(item_ids=["a"], dropped=0, timing=StageTiming(queue_ms=0, compute_ms=0))
        return httpx.Response(200, text=answer.model_dump_json())

    assert (await FilterClient(service(handler), 1.0).unseen(REQUEST)).item_ids == ["a"]


async def test_an_id_cannot_leave_its_place_in_the_path():
    paths = []

    def handler(request):
        paths.append(request.url.raw_path)
        return httpx.Response(200, json={"removed": 1})

    assert await FilterClient(service(handler), 1.0).forget("a/../b ?x=é") == 1
    assert paths == [b"/v1/seen/a%2F..%2Fb%20%3Fx%3D%C3%A9"]


@pytest.mark.parametrize(("scores", "propensities"), [([0.5], [1.0, 1.0]), ([0.5, 0.4], [1.0])])
async def test_scores_that_do_not_fit_the_ids_are_garbled(scores, propensities):
    body = {
        "item_ids": ["a", "b"],
        "scores": scores,
        "propensities": propensities,
        "unknown": 0,
        "version": "v",
        "timing": {"queue_ms": 0, "compute_ms": 0},
    }
    client = RankerClient(service(lambda request: httpx.Response(200, json=body), stage="ranker"))
    request = RankRequest(user=UserFeatures(user_id="u"), context={"timestamp": 1}, item_ids=["a", "b"])
    with pytest.raises(StageGarbled, match="2 ids with"):
        await client.rank(request)


async def test_similar_reads_ids_and_scores():
    answer = RetrieveResponse(item_ids=["b"], scores=[0.5], version="v", timing=StageTiming(queue_ms=0, compute_ms=0))
    client = RetrievalClient(
        service(lambda request: httpx.Response(200, text=answer.model_dump_json()), stage="retrieval")
    )
    assert await client.similar(SimilarRequest(item_id="a")) == answer


@pytest.mark.parametrize(("handler", "state"), [(answering(200), "ready"), (answering(503), "not ready")])
async def test_state(handler, state):
    assert await service(handler).state() == state


async def test_state_of_a_dead_service():
    client = ServiceClient("filter", "http://127.0.0.1:1", 1.0, dict)
    try:
        assert await client.state() == "down"
        with pytest.raises(StageError):
            await FilterClient(client, 1.0).unseen(REQUEST)
    finally:
        await client.aclose()


async def test_a_dropped_connection_is_down_and_not_late():
    async def drop(reader, writer):
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = ServiceClient("filter", f"http://127.0.0.1:{port}", 5.0, dict)
    try:
        with pytest.raises(StageDown):
            await FilterClient(client, 1.0).unseen(REQUEST)
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()
