"""HTTP of the retrieval service: parse, call, reply."""

from __future__ import annotations

from fastapi import APIRouter, Request

from cascade.api.common import Track
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.serving.responses import JsonResponse
from cascade.serving.tracks import Tracks
from cascade.store.artifacts import RetrievalArtifacts
from services.retrieval.engine import Candidates, Query

router = APIRouter(prefix="/v1", tags=["retrieval"])

RetrievalTracks = Tracks[RetrievalArtifacts, Query, Candidates]


@router.post("/retrieve", response_model=RetrieveResponse, summary="The k best candidates for a user")
async def retrieve(body: RetrieveRequest, request: Request) -> JsonResponse:
    return await _answer(body, body.track, request)


@router.post("/similar", response_model=RetrieveResponse, summary="The k items nearest to an item")
async def similar(body: SimilarRequest, request: Request) -> JsonResponse:
    return await _answer(body, "stable", request)


async def _answer(query: Query, track: Track, request: Request) -> JsonResponse:
    tracks: RetrievalTracks = request.app.state.tracks
    batched = await tracks.answer(query, track)
    found = batched.value
    return JsonResponse(
        {
            "item_ids": found.item_ids,
            "scores": [] if isinstance(query, RetrieveRequest) and not query.with_scores else found.scores,
            "version": found.version,
            "track": found.track,
            "timing": {"queue_ms": batched.queue_ms, "compute_ms": batched.compute_ms},
        }
    )
