"""A canary as visitors, impressions and metrics meet it: the whole gateway over stand-ins for the services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from cascade.api.gateway import RecommendationRequest
from cascade.api.ranker import RankRequest
from cascade.store import ModelStore, canary
from cascade.store.canary import Canary
from cascade.store.release import promote
from services.gateway.app import create_app
from services.gateway.engine import Recommender
from services.gateway.ports import StageDown
from services.gateway.settings import GatewaySettings
from services.gateway.tracks import Draw, Tracks

TOKEN = "a-token-of-some-length"
USERS = [f"u{number}" for number in range(60)]


@pytest.fixture
def versions(model_store: ModelStore) -> list[str]:
    """Two versions of the ranker, the first of them stable."""

    def write(text: str) -> str:
        def fill(folder: Path) -> None:
            (folder / "model.bin").write_text(text)

        return model_store.write("ranker", fill, training_days=[]).version

    found = [write("a"), write("b")]
    promote(model_store, "ranker", found[0])
    return found


async def look(client: httpx.AsyncClient) -> dict[str, Any]:
    """Make the gateway look at once; what it found."""
    answer = await client.post("/internal/refresh", headers={"authorization": f"Bearer {TOKEN}"})
    found: dict[str, Any] = answer.json()["bundles"]["gateway"]
    return found


async def tracks_of(client: httpx.AsyncClient, users: list[str], **headers: str) -> dict[str, str]:
    """The track of the ranker that answered each user."""
    found = {}
    for user_id in users:
        answer = await client.post("/v1/recommendations", json={"user_id": user_id, "k": 3}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert "ranker" not in answer.json()["degraded"]
        found[user_id] = answer.json()["versions"]["ranker"]["track"]
    return found


async def test_users_get_their_track_until_it_ends(
    model_store: ModelStore, versions: list[str], open_gateway: Any, stages: Any
) -> None:
    async with open_gateway(canary_poll_s=3600, internal_token=SecretStr(TOKEN)) as client:
        assert set((await tracks_of(client, USERS)).values()) == {"stable"}
        assert "cascade_track_requests_total{" not in (await client.get("/metrics")).text

        started = canary.start(model_store, "ranker", versions[1], 25)
        assert (await look(client))["canaries"] == {"ranker": 25.0}
        some = await tracks_of(client, USERS)
        assert some == {user: "canary" if Draw("ranker", started).has(user) else "stable" for user in USERS}
        assert await tracks_of(client, USERS) == some
        canary.advance(model_store, "ranker", 60)
        await look(client)
        more = await tracks_of(client, USERS)
        assert {user for user in USERS if some[user] == "canary"} < {user for user in USERS if more[user] == "canary"}

        text = (await client.get("/metrics")).text
        assert 'cascade_canary_percent{service="ranker"} 60.0' in text
        labels = 'service="ranker",track="canary",version='
        asked = [list(every.values()).count("canary") for every in (some, some, more)]
        # What answered names its version itself; what users were assigned is the store's.
        assert f'cascade_track_requests_total{{outcome="ok",{labels}"d2"}} {float(sum(asked))}' in text
        assert f'cascade_track_answers_total{{{labels}"{versions[1]}"}} {float(sum(asked))}' in text

        canary.abort(model_store, "ranker", "no better")
        assert "canaries" not in await look(client)
        assert set((await tracks_of(client, USERS)).values()) == {"stable"}
        assert 'cascade_canary_percent{service="ranker"} 0.0' in (await client.get("/metrics")).text
    assert {request.track for request in stages.retrievals} == {"stable"}


async def test_the_header_has_its_way_for_one_request(
    model_store: ModelStore, versions: list[str], open_gateway: Any, stages: Any
) -> None:
    async with open_gateway() as client:
        header = {"x-cascade-track": "ranker=canary"}
        assert set((await tracks_of(client, USERS[:3], **header)).values()) == {"canary"}
        assert set((await tracks_of(client, USERS[:3])).values()) == {"stable"}
        canary.start(model_store, "ranker", versions[1], 100)
    async with open_gateway() as client:
        header = {"X-Cascade-Track": "ranker=stable, retrieval=canary"}
        assert set((await tracks_of(client, USERS[:3], **header)).values()) == {"stable"}
        assert stages.retrievals[-1].track == "canary"
        assert set((await tracks_of(client, USERS[:3])).values()) == {"canary"}


@pytest.mark.parametrize("value", ["ranker=canary", "ranker=canary, retrieval=canary", "no track at all"])
async def test_the_header_means_nothing_where_it_is_off(
    model_store: ModelStore, versions: list[str], open_gateway: Any, stages: Any, value: str
) -> None:
    canary.start(model_store, "ranker", versions[1], 50)
    async with open_gateway(track_header=False) as client:
        drawn = await tracks_of(client, USERS)
        assert set(drawn.values()) == {"stable", "canary"}
        assert await tracks_of(client, USERS, **{"x-cascade-track": value}) == drawn
    assert {request.track for request in stages.retrievals} == {"stable"}


@pytest.mark.parametrize(
    "value", ["", "canary", "gateway=canary", "ranker=canary; retrieval=stable", "ranker=ca\xf1ary"]
)
async def test_a_malformed_header_is_a_problem_that_names_it(
    model_store: ModelStore, open_gateway: Any, stages: Any, value: str
) -> None:
    async with open_gateway() as client:
        headers = {"x-cascade-track": value.encode("latin-1")}
        answer = await client.post("/v1/recommendations", json={"user_id": "u"}, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:cascade:problem:bad-track-header"
    (fault,) = problem["errors"]
    assert (fault["field"], fault["value"]) == ("x-cascade-track", value)
    assert "such as 'ranker=canary, retrieval=stable'" in fault["message"]
    assert not stages.retrievals


@pytest.mark.parametrize("fault", ["failing", "slow"])
async def test_no_visitor_pays_for_a_canary_that_fails(
    model_store: ModelStore, versions: list[str], open_gateway: Any, services: Any, stages: Any, fault: str
) -> None:
    if fault == "slow":
        stages.slow.add("ranker canary")
    else:
        stages.failing["ranker canary"] = httpx.ReadError("the connection broke")
    canary.start(model_store, "ranker", versions[1], 100)
    async with open_gateway(ranker_timeout_ms=30_000, deadline_ms=30_000, canary_time_share=0.001) as client:
        assert set((await tracks_of(client, USERS[:5])).values()) == {"stable"}
        text = (await client.get("/metrics")).text
    labels = f'service="ranker",track="canary",version="{versions[1]}"'
    outcome = "late" if fault == "slow" else "error"
    assert f'cascade_track_requests_total{{outcome="{outcome}",{labels}}} 5.0' in text
    assert f'cascade_track_fallbacks_total{{reason="{outcome}",{labels}}} 5.0' in text
    assert f"cascade_track_degraded_total{{{labels}}} 5.0" in text  # Feast is not there in these tests
    assert 'cascade_degraded_total{stage="ranker"} 0.0' in text


async def test_a_canary_call_that_is_killed_is_answered_by_stable(
    model_store: ModelStore, versions: list[str], settings: GatewaySettings, services: Any
) -> None:
    """Over TCP: whoever computes a canary's list is gone before it has answered."""
    killed = 0
    connections: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal killed
        connections.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):  # the caller has closed the connection
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(next(line for line in head.split(b"\r\n") if b"content-length" in line).split()[1])
                asked = RankRequest.model_validate_json(await reader.readexactly(length))
                if asked.track == "canary":
                    killed += 1
                    break
                body = (await services.stages.rank(asked)).model_dump_json().encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    canary.start(model_store, "ranker", versions[1], 50)
    others = {name: caller for name, caller in services.callers().items() if name != "ranker"}
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        app = create_app(settings.model_copy(update={"ranker_url": f"http://127.0.0.1:{port}"}), others)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://g") as client,
        ):
            assert set((await tracks_of(client, USERS)).values()) == {"stable"}
        await asyncio.gather(*(task for task in connections if task is not None))
    assert 15 < killed < 45


# The engine alone


class Answers:
    """An AnswerObserver that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None, bool]] = []

    def answer(self, service: str, track: str, version: str | None, degraded: bool) -> None:
        self.seen.append((service, track, version, degraded))


@pytest.fixture
def over(make_recommender: Callable[..., Recommender]) -> Callable[..., tuple[Recommender, Answers]]:
    """A recommender whose services have canaries with a share of the users each."""

    def made(overlap: bool = False, **percents: float) -> tuple[Recommender, Answers]:
        answers = Answers()
        tracks = Tracks(answers)
        for service, percent in percents.items():
            tracks.set(service, Canary("v2", percent, 0, "running", "", 1.0, 1.0))  # type: ignore[arg-type]
        recommender = make_recommender(overlap=overlap)
        recommender._tracks = tracks
        return recommender, answers

    return made


def ask(user_id: str = "u-1", **fields: Any) -> RecommendationRequest:
    return RecommendationRequest(user_id=user_id, **{"k": 5, **fields})


@pytest.mark.parametrize("overlap", [False, True])
async def test_answers_and_impressions_tell_the_track_assigned_and_the_one_that_answered(
    over: Any, stages: Any, overlap: bool
) -> None:
    recommender, answers = over(overlap, ranker=100.0, retrieval=100.0)
    answer = await recommender.recommend(ask(), "r")
    assert {stage: (one.track, one.version) for stage, one in answer.versions.items()} == {
        "retrieval": ("canary", "r2"),
        "ranker": ("canary", "d2"),
    }
    (shown,) = stages.impressions
    assert shown.tracks == shown.assigned == {"retrieval": "canary", "ranker": "canary"}
    assert (shown.versions, shown.forced) == ({"retrieval": "r2", "ranker": "d2"}, [])
    assert sorted(answers.seen) == [("ranker", "canary", "v2", False), ("retrieval", "canary", "v2", False)]


async def test_an_impression_keeps_the_track_assigned_where_another_answered(over: Any, stages: Any) -> None:
    recommender, answers = over(ranker=100.0)
    stages.failing["ranker canary"] = StageDown("ranker", "500")  # no port here that asks stable
    answer = await recommender.recommend(ask(), "r")
    assert answer.degraded == ["ranker"]
    assert answers.seen == [("ranker", "canary", "v2", True)]
    assert stages.impressions[0].assigned == {"ranker": "canary"}
    assert "ranker" not in stages.impressions[0].tracks


async def test_a_search_that_goes_deeper_stays_on_its_track(over: Any, stages: Any) -> None:
    recommender, _ = over(retrieval=100.0)
    stages.met = {f"item-{number:02}" for number in range(20)}
    await recommender.recommend(ask(), "r")
    assert [(request.k, request.track) for request in stages.retrievals] == [(20, "canary"), (30, "canary")]


async def test_without_a_canary_an_impression_says_nothing_of_one(over: Any, stages: Any) -> None:
    recommender, answers = over()
    made: list[bytes] = []
    stages.shown = lambda make: made.append(make())
    await recommender.recommend(ask(), "r")
    assert b"assigned" not in made[0]
    assert b"forced" not in made[0]
    assert not answers.seen


async def test_what_a_request_forces_is_marked(over: Any, stages: Any) -> None:
    recommender, _ = over(retrieval=100.0)
    await recommender.recommend(ask(), "r", {"ranker": "canary"})
    (shown,) = stages.impressions
    assert shown.assigned == {"retrieval": "canary", "ranker": "canary"}
    assert shown.forced == ["ranker"]
