"""The public API: parse, call, reply."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel
from starlette.responses import Response

from cascade.api.common import Id
from cascade.api.gateway import (
    DeletionResponse,
    ForgettingReceipt,
    InfoResponse,
    InteractionRequest,
    InteractionResponse,
    RecommendationRequest,
    RecommendationResponse,
)
from cascade.serving.context import current_request_id
from cascade.serving.strict_json import strict_body
from services.gateway.container import Gateway
from services.gateway.tracks import forced_tracks

UserId = Annotated[Id, Path(examples=["u-17"])]
Receipt = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["0123456789abcdef"])]

router = APIRouter(dependencies=[Depends(strict_body)])


def gateway_of(request: Request) -> Gateway:
    """The gateway behind this app."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def reply(message: BaseModel, status: int = 200) -> Response:
    """A message as its bytes: it is valid by construction and not validated again."""
    return Response(message.model_dump_json(), status, media_type="application/json")


@router.post(
    "/v1/recommendations",
    tags=["recommendations"],
    summary="A ranked list for a visitor",
    response_model=RecommendationResponse,
)
async def recommend(body: RecommendationRequest, request: Request) -> Response:
    """The k items this visitor most likely clicks now, met ones left out.

    Nothing but `user_id` is required, and the user need not be known: time defaults to now, a missing or unknown device
    is treated as such. `degraded` names stages that were down or late; the list is there all the same. `explain` adds
    every candidate's way through the stages.

    The header `X-Cascade-Track: ranker=canary, retrieval=stable` asks for a track of a service, for this request alone;
    a gateway whose requests come from the internet may pay it no heed.
    """
    gateway = gateway_of(request)
    forced = forced_tracks(request.scope["headers"]) if gateway.track_header else None
    shop = gateway.shop()
    recommender = shop.explainer if body.explain else shop.recommender
    async with gateway.lists.slot():
        return reply(await recommender.recommend(body, current_request_id() or "", forced))


@router.post(
    "/v1/interactions",
    tags=["visitors"],
    summary="A visitor met an item",
    status_code=202,
    response_model=InteractionResponse,
)
async def interact(body: InteractionRequest, request: Request) -> Response:
    """Answers 202 once the interaction is recorded: the next list leaves the item out."""
    gateway = gateway_of(request)
    async with gateway.clicks.slot():
        event_id = await gateway.visitors.record(body)
    return reply(InteractionResponse(event_id=event_id), 202)


@router.get("/v1/info", tags=["operations"], summary="How this gateway is run", response_model=InfoResponse)
async def info(request: Request) -> Response:
    """Whether requests need an API key. This one needs none."""
    return reply(gateway_of(request).info)


# The converter `path` takes ids with slashes; the longer route stands first.
@router.delete(
    "/v1/users/{user_id:path}/history",
    tags=["visitors"],
    summary="Forget what a user met",
    response_model=DeletionResponse,
)
async def forget_history(user_id: UserId, request: Request) -> Response:
    """Every item may be shown to the user again."""
    removed = await gateway_of(request).visitors.forget_history(user_id)
    return reply(DeletionResponse(user_id=user_id, removed=removed))


@router.delete(
    "/v1/users/{user_id:path}",
    tags=["visitors"],
    summary="Forget a user",
    response_model=ForgettingReceipt,
)
async def forget_user(user_id: UserId, request: Request) -> Response:
    """Removes whatever is kept of a user, and keeps the id out from now on; answers with a receipt.

    What is online is gone with the answer. Streams, files and offline features follow within seconds; the receipt
    tells when, what was removed, and which model versions have learned from the user.
    """
    return reply(await gateway_of(request).visitors.forget(user_id))


@router.get(
    "/v1/forgettings/{receipt}",
    tags=["visitors"],
    summary="How far a user's forgetting has come",
    response_model=ForgettingReceipt,
)
async def forgetting(receipt: Receipt, request: Request) -> Response:
    """The receipt that `DELETE /v1/users/{id}` gave, as it stands now."""
    return reply(await gateway_of(request).visitors.receipt(receipt))
