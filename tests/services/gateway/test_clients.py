"""Every way a service can fail has its name."""

import json

import pytest

from cascade.api.common import StageTiming, UserFeatures
from cascade.api.filter import FilterRequest, FilterResponse, SeenRequest
from cascade.api.ranker import RankRequest
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.serving.calls import Answer, CallFailed, CallLate
from cascade.serving.tcp_calls import TcpCaller
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


class Answering:
    """A Caller that remembers its calls and answers all alike."""

    def __init__(self, status=200, text="{}", headers=None):
        self.answer = Answer(status, text.encode(), headers or {})
        self.calls = []
        self.repeatable = []

    async def call(self, method, path, body, headers, timeout_s, repeatable=False):
        self.calls.append((method, path, body, headers, timeout_s))
        self.repeatable.append(repeatable)
        return self.answer


def service(caller, stage="filter", timeout_s=5.0):
    return ServiceClient(stage, caller, timeout_s, lambda: {"x-request-id": "req-1"})


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (Answering(500), StageDown),
        (Answering(503), StageDown),
        (Answering(429, headers={"retry-after": "7"}), StageBusy),
        (Answering(422), StageRefused),
        (Answering(404), StageRefused),
        (Answering(307), StageDown),
        (Answering(200, "not json"), StageGarbled),
        (Answering(200, '{"item_ids": "a"}'), StageGarbled),
    ],
)
async def test_answers_that_are_none(caller, error):
    with pytest.raises(error) as raised:
        await FilterClient(service(caller), 1.0).unseen(REQUEST)
    assert raised.value.stage == "filter"
    if error is StageBusy:
        assert raised.value.retry_after_s == 7


@pytest.mark.parametrize(("failure", "error"), [(CallFailed("refused"), StageDown), (CallLate("slow"), StageLate)])
async def test_failures_of_the_call(failure, error):
    class Failing:
        async def call(self, *_):
            raise failure

    with pytest.raises(error):
        await FilterClient(ServiceClient("filter", Failing(), 1.0, dict), 1.0).unseen(REQUEST)


async def test_reads_and_writes_have_their_own_times():
    caller = Answering(text='{"event_id": "1-0"}')
    client = FilterClient(service(caller, timeout_s=0.1), 2.0)
    await client.seen(SeenRequest(user_id="u", item_id="a", timestamp=1))
    with pytest.raises(StageGarbled):
        await client.unseen(REQUEST)
    assert [call[4] for call in caller.calls] == [2.0, 0.1]


async def test_what_may_be_asked_of_another_replica():
    reads, seen, forgotten = Answering(), Answering(text='{"event_id": "1-0"}'), Answering(text='{"removed": 0}')
    questions = (
        FilterClient(service(reads), 1.0).unseen(REQUEST),
        RetrievalClient(service(reads)).retrieve(
            RetrieveRequest(user=UserFeatures(user_id="u"), context={"timestamp": 1})
        ),
        RetrievalClient(service(reads)).similar(SimilarRequest(item_id="a")),
        RankerClient(service(reads)).rank(
            RankRequest(user=UserFeatures(user_id="u"), context={"timestamp": 1}, item_ids=["a"])
        ),
    )
    for question in questions:
        with pytest.raises(StageGarbled):
            await question
    await service(reads).state()
    assert reads.repeatable == [True] * 5

    await FilterClient(service(seen), 1.0).seen(SeenRequest(user_id="u", item_id="a", timestamp=1))
    await FilterClient(service(forgotten), 1.0).forget("u")
    assert seen.repeatable == [True]
    assert forgotten.repeatable == [False]


async def test_every_write_has_a_name_of_its_own():
    caller = Answering(text='{"event_id": "1-0"}')
    client, request = FilterClient(service(caller), 1.0), SeenRequest(user_id="u", item_id="a", timestamp=1)
    for _ in range(2):
        await client.seen(request)
    first, second = (SeenRequest.model_validate_json(call[2]) for call in caller.calls)
    assert first.write_id != second.write_id
    assert None not in (first.write_id, second.write_id)
    assert first.model_copy(update={"write_id": None}) == request


async def test_the_request_id_travels():
    answer = FilterResponse(item_ids=["a"], dropped=0, timing=StageTiming(queue_ms=0, compute_ms=0))
    caller = Answering(text=answer.model_dump_json())
    assert (await FilterClient(service(caller), 1.0).unseen(REQUEST)).item_ids == ["a"]
    ((method, path, body, headers, _),) = caller.calls
    assert (method, path, FilterRequest.model_validate_json(body)) == ("POST", "/v1/filter", REQUEST)
    assert headers == {"x-request-id": "req-1", "content-type": "application/json"}


async def test_an_id_cannot_leave_its_place_in_the_path():
    caller = Answering(text='{"removed": 1}')
    assert await FilterClient(service(caller), 1.0).forget("a/../b ?x=é") == 1
    assert caller.calls[0][1] == "/v1/seen/a%2F..%2Fb%20%3Fx%3D%C3%A9"


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
    client = RankerClient(service(Answering(text=json.dumps(body)), stage="ranker"))
    request = RankRequest(user=UserFeatures(user_id="u"), context={"timestamp": 1}, item_ids=["a", "b"])
    with pytest.raises(StageGarbled, match="2 ids with"):
        await client.rank(request)


async def test_similar_reads_ids_and_scores():
    answer = RetrieveResponse(item_ids=["b"], scores=[0.5], version="v", timing=StageTiming(queue_ms=0, compute_ms=0))
    client = RetrievalClient(service(Answering(text=answer.model_dump_json()), stage="retrieval"))
    assert await client.similar(SimilarRequest(item_id="a")) == answer


@pytest.mark.parametrize(("caller", "state"), [(Answering(200), "ready"), (Answering(503), "not ready")])
async def test_state(caller, state):
    assert await service(caller).state() == state


async def test_state_of_a_dead_service():
    client = ServiceClient("filter", TcpCaller("http://127.0.0.1:1"), 1.0, dict)
    try:
        assert await client.state() == "down"
        with pytest.raises(StageError):
            await FilterClient(client, 1.0).unseen(REQUEST)
    finally:
        await client.aclose()
