"""HTTP of the retrieval service: parse, call, reply."""

from __future__ import annotations

from fastapi import APIRouter, Request

from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.serving.batching import MicroBatcher
from cascade.serving.responses import JsonResponse
from services.retrieval.engine import Candidates, Query

router = APIRouter(prefix="/v1", tags=["retrieval"])

Batcher = MicroBatcher[Query, Candidates]


@router.post("/retrieve", response_model=RetrieveResponse, summary="The k best candidates for a user")
async def retrieve(body: RetrieveRequest, request: Request) -> JsonResponse:
    return await _answer(body, request)


@router.post("/similar", response_model=RetrieveResponse, summary="The k items nearest to an item")
async def similar(body: SimilarRequest, request: Request) -> JsonResponse:
    return await _answer(body, request)


async def _answer(query: Query, request: Request) -> JsonResponse:
    batcher: Batcher = request.app.state.batcher
    batched = await batcher.submit(query)
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
