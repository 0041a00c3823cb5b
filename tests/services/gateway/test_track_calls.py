"""A canary that fails costs a visitor nothing, and is counted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from cascade import deadline
from cascade.api.common import Context, StageTiming, Track, UserFeatures
from cascade.api.ranker import RankRequest, RankResponse
from cascade.serving.metrics import ServiceMetrics
from cascade.store.canary import Canary
from services.gateway.ports import StageBusy, StageDown, StageError, StageGarbled, StageLate, StageRefused
from services.gateway.track_calls import TrackedCalls, TrackedRanker
from services.gateway.track_metrics import FALLBACK_REASONS, OUTCOMES, TrackMetrics
from services.gateway.tracks import Tracks

CANARY = Canary("v2", 50.0, 0, "running", "", 100.0, 100.0)
FAULTS: list[Exception] = [
    StageDown("ranker", "500"),
    StageBusy("ranker", "429"),
    StageRefused("ranker", "422", 422),
    StageGarbled("ranker", "no message"),
    KeyError("a defect"),
]


@dataclass
class Service:
    """A ranker with a bundle for each track. failing: by track, what is raised; slow: tracks that never answer."""

    versions: dict[str, str] = field(default_factory=lambda: {"stable": "v1", "canary": "v2"})
    failing: dict[str, Exception] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    async def rank(self, request: RankRequest) -> RankResponse:
        self.asked.append(request.track)
        if request.track in self.slow:
            await asyncio.sleep(3600)
        if request.track in self.failing:
            raise self.failing[request.track]
        track: Track = request.track if request.track in self.versions else "stable"
        timing = StageTiming(queue_ms=0, compute_ms=0)
        return RankResponse(
            item_ids=request.item_ids, scores=[0.5], propensities=[1.0], unknown=0,
            version=self.versions[track], track=track, timing=timing,
        )  # fmt: skip


class Ranking:
    """A TrackedRanker over a Service, and what it counted."""

    def __init__(self, canary: Canary | None = CANARY, stage_s: float = 60.0) -> None:
        self.service = Service()
        self.metrics = ServiceMetrics("gateway")
        counted = TrackMetrics(self.metrics)
        tracks = Tracks(counted)
        tracks.set("ranker", canary)
        self.ranker = TrackedRanker(self.service, TrackedCalls("ranker", tracks, counted, stage_s, 0.5))

    async def rank(self, track: Track) -> RankResponse:
        user, context = UserFeatures(user_id="u1"), Context(timestamp=0)
        return await self.ranker.rank(RankRequest(user=user, context=context, item_ids=["i1"], track=track))

    def outcomes(self, track: str, version: str) -> list[float | None]:
        return [self._value("cascade_track_requests_total", track, version, outcome=one) for one in OUTCOMES]

    def fallbacks(self, version: str) -> list[float | None]:
        return [self._value("cascade_track_fallbacks_total", "canary", version, reason=one) for one in FALLBACK_REASONS]

    def seconds(self, track: str, version: str) -> float | None:
        return self._value("cascade_track_seconds_count", track, version)

    def _value(self, name: str, track: str, version: str, **more: str) -> float | None:
        labels = {"service": "ranker", "track": track, "version": version, **more}
        return self.metrics.registry.get_sample_value(name, labels)


async def test_each_track_answers_for_itself_and_is_counted() -> None:
    ranking = Ranking()
    for track, version in (("stable", "v1"), ("canary", "v2"), ("canary", "v2")):
        answer = await ranking.rank(track)  # type: ignore[arg-type]
        assert (answer.track, answer.version) == (track, version)
    assert ranking.outcomes("stable", "v1") == [1, 0, 0]
    assert ranking.outcomes("canary", "v2") == [2, 0, 0]
    assert ranking.seconds("canary", "v2") == 2
    assert ranking.fallbacks("v2") == [0, 0, 0]


async def test_without_a_canary_nothing_is_counted() -> None:
    ranking = Ranking(canary=None)
    assert (await ranking.rank("stable")).version == "v1"
    assert "cascade_track_requests_total{" not in ranking.metrics.exposition().decode()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_canary_that_fails_is_answered_by_stable(fault: Exception) -> None:
    ranking = Ranking()
    ranking.service.failing["canary"] = fault
    with capture_logs() as logs:
        for _ in range(3):
            answer = await ranking.rank("canary")
            assert (answer.track, answer.version) == ("stable", "v1")
    assert ranking.service.asked == ["canary", "stable"] * 3
    assert ranking.outcomes("canary", "v2") == [0, 3, 0]
    assert ranking.outcomes("stable", "v1") == [3, 0, 0]
    assert ranking.fallbacks("v2") == [3, 0, 0]
    assert [entry["event"] for entry in logs] == ["canary failed, stable is asked"]


async def test_a_canary_that_hangs_leaves_time_for_stable_of_what_the_request_has_left() -> None:
    """The stage's own time is longer than the request's: half of that would be all of this."""
    ranking = Ranking(stage_s=60.0)
    ranking.service.slow.add("canary")
    left = []

    async def rank(request: RankRequest) -> RankResponse:
        left.append((request.track, deadline.left_s() or 0.0))
        return await Service.rank(ranking.service, request)

    ranking.service.rank = rank  # type: ignore[method-assign]
    with deadline.within(0.4):
        async with asyncio.timeout(0.4):
            assert (await ranking.rank("canary")).version == "v1"
    (_, canary_s), (_, stable_s) = left
    assert [track for track, _ in left] == ["canary", "stable"]
    assert canary_s <= 0.2, "the service is told of its part, not of the whole"
    assert 0 < stable_s <= 0.2
    assert ranking.fallbacks("v2")[FALLBACK_REASONS.index("late")] == 1


async def test_a_canary_that_is_late_leaves_time_for_stable() -> None:
    ranking = Ranking(stage_s=0.02)
    ranking.service.slow.add("canary")
    assert (await ranking.rank("canary")).version == "v1"
    ranking.service.slow.clear()
    ranking.service.failing["canary"] = StageLate("ranker", "by the client's own clock")
    assert (await ranking.rank("canary")).version == "v1"
    assert ranking.outcomes("canary", "v2") == [0, 0, 2]
    assert ranking.seconds("canary", "v2") == 2
    assert ranking.fallbacks("v2") == [0, 2, 0]


async def test_a_replica_without_the_canary_answers_from_stable_which_is_no_failure() -> None:
    ranking = Ranking()
    del ranking.service.versions["canary"]
    answer = await ranking.rank("canary")
    assert (answer.track, answer.version) == ("stable", "v1")
    assert ranking.service.asked == ["canary"]
    assert ranking.outcomes("stable", "v1") == [1, 0, 0]
    assert ranking.outcomes("canary", "v2") == [0, 0, 0]
    assert ranking.fallbacks("v2") == [0, 0, 1]


async def test_where_stable_fails_too_the_stage_has_failed() -> None:
    ranking = Ranking()
    ranking.service.failing = {"canary": StageDown("ranker", "500"), "stable": StageDown("ranker", "503")}
    with pytest.raises(StageError, match="503"):
        await ranking.rank("canary")
    assert ranking.service.asked == ["canary", "stable"]
    assert ranking.outcomes("stable", "unknown") == [0, 1, 0]


async def test_a_stable_call_that_is_given_up_was_late() -> None:
    ranking = Ranking()
    await ranking.rank("stable")
    ranking.service.slow.add("stable")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ranking.rank("stable")
    assert ranking.outcomes("stable", "v1") == [1, 0, 1]


async def test_a_canary_asked_for_by_name_counts_for_what_answered() -> None:
    ranking = Ranking(canary=None)
    assert (await ranking.rank("canary")).version == "v2"
    assert ranking.outcomes("canary", "v2") == [1, 0, 0]


async def test_the_next_canary_is_told_of_again() -> None:
    ranking = Ranking()
    ranking.service.failing["canary"] = StageDown("ranker", "500")
    await ranking.rank("canary")
    tracks = Tracks(TrackMetrics(ServiceMetrics("other")))
    tracks.set("ranker", replace(CANARY, version="v3"))
    ranking.ranker._calls._running = tracks.running
    with capture_logs() as logs:
        await ranking.rank("canary")
    assert [entry["version"] for entry in logs] == ["v3"]
