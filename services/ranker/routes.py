"""HTTP of the ranker: parse, call, reply."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from cascade.api.explain import AttributionRequest, AttributionResponse
from cascade.api.ranker import RankRequest, RankResponse
from cascade.serving.responses import JsonResponse
from cascade.serving.tracks import Tracks
from cascade.store.artifacts import RankerArtifacts
from services.ranker.engine import Ranked
from services.ranker.explain import attribute

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


@router.post("/attribution", response_model=AttributionResponse, summary="What a click probability is made of")
async def attribution(body: AttributionRequest, request: Request) -> Response:
    tracks: RankerTracks = request.app.state.tracks
    beside = tracks.canary
    asked = beside if body.track == "canary" and beside is not None and beside.holder.version else tracks.stable
    # In a thread: lists being ranked do not wait for somebody's curiosity.
    found = await asyncio.to_thread(attribute, asked.holder.current, body)
    return Response(found.model_dump_json(), media_type="application/json")
