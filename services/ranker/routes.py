"""HTTP of the ranker: parse, call, reply."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from cascade.api.ranker import RankRequest, RankResponse
from cascade.serving.batching import MicroBatcher
from cascade.serving.responses import JsonResponse
from services.ranker.engine import Ranked

router = APIRouter(prefix="/v1", tags=["ranker"])

Batcher = MicroBatcher[RankRequest, Ranked]


async def _batcher(request: Request) -> Batcher:
    batcher: Batcher = request.app.state.batcher
    return batcher


@router.post("/rank", response_model=RankResponse, summary="Order candidates by click probability and keep k")
async def rank(body: RankRequest, batcher: Annotated[Batcher, Depends(_batcher)]) -> JsonResponse:
    batched = await batcher.submit(body)
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
