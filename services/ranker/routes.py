"""HTTP of the ranker: parse, call, reply."""

from __future__ import annotations

from fastapi import APIRouter, Request

from cascade.api.ranker import RankRequest, RankResponse
from cascade.serving.responses import JsonResponse
from cascade.serving.tracks import Tracks
from cascade.store.artifacts import RankerArtifacts
from services.ranker.engine import Ranked

router = APIRouter(prefix="/v1", tags=["ranker"])

RankerTracks = Tracks[RankerArtifacts, RankRequest, Ranked]


@router.post("/rank", response_model=RankResponse, summary="Order candidates by click probability and keep k")
async def rank(body: RankRequest, request: Request) -> JsonResponse:
    tracks: RankerTracks = request.app.state.tracks
    batched = await tracks.answer(body, body.track)
    ranked = batched.value
    return JsonResponse(
        {
            "item_ids": ranked.item_ids,
            "scores": ranked.scores,
            "propensities": ranked.propensities,
            "unknown": ranked.unknown,
            "version": ranked.version,
            "track": ranked.track,
            "timing": {"queue_ms": batched.queue_ms, "compute_ms": batched.compute_ms},
        }
    )
