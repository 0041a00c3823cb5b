"""HTTP of the filter service: parse, call, reply."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from cascade.api.common import Id
from cascade.api.filter import FilterRequest, FilterResponse, ForgetResponse, SeenRequest, SeenResponse
from cascade.serving.responses import JsonResponse
from services.filter.engine import FilterEngine

router = APIRouter(prefix="/v1", tags=["filter"])


async def _engine(request: Request) -> FilterEngine:
    engine: FilterEngine = request.app.state.engine
    return engine


Engine = Annotated[FilterEngine, Depends(_engine)]


@router.post("/filter", response_model=FilterResponse, summary="Which of these items has the user not seen lately?")
async def filter_items(body: FilterRequest, request: Request) -> JsonResponse:
    engine: FilterEngine = request.app.state.engine
    filtered = await engine.unseen(body)
    return JsonResponse(
        {
            "item_ids": filtered.item_ids,
            "dropped": filtered.dropped,
            "timing": {"queue_ms": filtered.queue_ms, "compute_ms": filtered.compute_ms},
        }
    )


@router.post("/seen", response_model=SeenResponse, summary="Record an interaction, all of it or nothing")
async def seen(body: SeenRequest, engine: Engine) -> JsonResponse:
    return JsonResponse({"event_id": await engine.record(body)})


# A path, because a shop's id may hold slashes.
@router.delete("/seen/{user_id:path}", response_model=ForgetResponse, summary="Forget a user's seen and recent items")
async def forget(user_id: Id, engine: Engine) -> JsonResponse:
    return JsonResponse({"removed": await engine.forget(user_id)})
