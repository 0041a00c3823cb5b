"""Model versions over HTTP: anyone who sees the page may look, the admin key alone changes."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cascade.api.versions import ModelsResponse, PromoteRequest, ReleaseResponse
from services.gateway.routes import gateway_of, reply


def model_router(admin_key: SecretStr | None) -> APIRouter:
    """The routes; without a key those that change are not there."""
    router = APIRouter(tags=["storefront"])

    @router.get("/v1/models", summary="Model versions of every service", response_model=ModelsResponse)
    async def models(request: Request) -> Response:
        """Versions with their aliases, parents, metrics and gates, the newest first."""
        return reply(await gateway_of(request).models.all(can_change=admin_key is not None))

    if admin_key is None:
        return router
    expected = f"Bearer {admin_key.get_secret_value()}".encode()

    def require_key(request: Request) -> None:
        offered = request.headers.get("authorization", "").encode("latin-1")
        if not secrets.compare_digest(offered, expected):
            raise HTTPException(401, "This needs the admin key.", {"WWW-Authenticate": "Bearer"})

    @router.post("/v1/models/{service}/promote", summary="Make a version serve", response_model=ReleaseResponse)
    async def promote(service: str, body: PromoteRequest, request: Request) -> Response:
        """The version is verified before the alias names it. Services follow within their polling time."""
        require_key(request)
        return reply(await gateway_of(request).models.promote(service, body.version))

    @router.post(
        "/v1/models/{service}/rollback", summary="Make the version before serve again", response_model=ReleaseResponse
    )
    async def rollback(service: str, request: Request) -> Response:
        """Stable and previous change places; doing it twice undoes it."""
        require_key(request)
        return reply(await gateway_of(request).models.rollback(service))

    return router
