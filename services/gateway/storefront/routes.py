"""What the page asks for besides the public API: users, and what changes about one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cascade.api.common import MAX_ID_LENGTH
from cascade.api.storefront import UserProfile, UsersResponse
from cascade.api.why import WhyRequest, WhyResponse
from cascade.serving.server_events import EventResponse
from services.gateway.routes import UserId, gateway_of, reply

WATCH_EVERY_S = 0.1
LIVE_EVERY_S = 1.0

router = APIRouter(tags=["storefront"])


@router.get("/v1/users", summary="Users the online store knows", response_model=UsersResponse)
async def users(
    request: Request,
    query: Annotated[str | None, Query(max_length=MAX_ID_LENGTH, description="part of an id; none: by chance")] = None,
    limit: Annotated[int, Query(ge=1, le=50)] = 12,
) -> Response:
    """Some users by chance, or those whose id holds `query`."""
    return reply(await gateway_of(request).users.find(query, limit))


# The converter `path` takes ids with slashes; the longer route stands first.
@router.get(
    "/v1/users/{user_id:path}/events",
    summary="Changes of a user's features and interactions, as they happen",
    status_code=200,
    response_class=EventResponse,
)
async def events(user_id: UserId, request: Request) -> Response:
    """Server-sent events: `hello`, then `features` and `interactions` whenever they changed."""
    gateway = gateway_of(request)
    return gateway.streams.response(gateway.users.watch(user_id).poll, WATCH_EVERY_S)


@router.get("/v1/users/{user_id:path}", summary="What is known of a user", response_model=UserProfile)
async def profile(user_id: UserId, request: Request) -> Response:
    """Features and latest interactions; of a stranger none."""
    gateway = gateway_of(request)
    shop = gateway.loaded_shop()
    return reply(await gateway.users.profile(user_id, None if shop is None else shop.catalog))


@router.post("/v1/explanations", summary="Why an item is in a visitor's list, or is not", response_model=WhyResponse)
async def explanations(body: WhyRequest, request: Request) -> Response:
    """Which stage decided and by how much, what the item's score is made of, and what the visitor liked like it."""
    gateway = gateway_of(request)
    shop = gateway.shop()
    async with gateway.lists.slot():
        return reply(await gateway.why.explain(body, shop.explainer, shop.catalog))


@router.get(
    "/v1/live", summary="What the gateway does now, once a second", status_code=200, response_class=EventResponse
)
async def live(request: Request) -> Response:
    """Server-sent events: `sample` with rates, quantiles, what waits, and clicks by track."""
    gateway = gateway_of(request)
    return gateway.streams.response(gateway.live().poll, LIVE_EVERY_S)
