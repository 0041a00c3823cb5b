"""Model versions over HTTP: anyone who sees the page may look, an admin key alone changes (services.gateway.access)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from cascade.api.versions import ModelsResponse, PromoteRequest, ReleaseResponse
from services.gateway.routes import gateway_of, reply

router = APIRouter(tags=["storefront"])


@router.get("/v1/models", summary="Model versions of every service", response_model=ModelsResponse)
async def models(request: Request) -> Response:
    """Versions with their aliases, parents, metrics and gates, the newest first."""
    gateway = gateway_of(request)
    return reply(await gateway.models.all(can_change=gateway.guard.can_change))


@router.post("/v1/models/{service}/promote", summary="Make a version serve", response_model=ReleaseResponse)
async def promote(service: str, body: PromoteRequest, request: Request) -> Response:
    """The version is verified before the alias names it. Services follow within their polling time."""
    return reply(await gateway_of(request).models.promote(service, body.version))


@router.post(
    "/v1/models/{service}/rollback", summary="Make the version before serve again", response_model=ReleaseResponse
)
async def rollback(service: str, request: Request) -> Response:
    """Stable and previous change places; doing it twice undoes it."""
    return reply(await gateway_of(request).models.rollback(service))
