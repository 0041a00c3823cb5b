"""POST /internal/refresh: a service is told to look at its alias now instead of at its next poll.

It is no part of the public API: it is in no OpenAPI document, needs a bearer token, and does not exist where no token
is set. A caller can make a service look, never choose what it loads: that is the alias alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cascade.serving.reload import BundleHolder
from cascade.serving.responses import JsonResponse

REFRESH_PATH = "/internal/refresh"

Outcome = Mapping[str, object]
"""`version` that serves (or null), whether it `changed`, and why another one was `refused` (or null)."""
Refresh = Callable[[], Awaitable[Mapping[str, Outcome]]]
"""Looks at once; returns bundle name → outcome."""


def refresh_router(token: SecretStr | None) -> APIRouter:
    """The endpoint, or nothing without a token. It runs what `refreshed_by` has set."""
    router = APIRouter(include_in_schema=False)
    if token is None:
        return router
    expected = f"Bearer {token.get_secret_value()}".encode()

    @router.post(REFRESH_PATH)
    async def refresh(request: Request) -> Response:
        offered = request.headers.get("authorization", "").encode("latin-1")
        if not secrets.compare_digest(offered, expected):
            raise HTTPException(401, "This endpoint needs its token.", {"WWW-Authenticate": "Bearer"})
        run: Refresh = request.app.state.refresh
        return JsonResponse({"bundles": await run()})

    return router


def refreshed_by(app: FastAPI, *refreshes: Refresh) -> None:
    """Set what the app's endpoint looks at: one process may hold the bundles of several services."""

    async def all_of_them() -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        for refresh in refreshes:
            found |= await refresh()
        return found

    app.state.refresh = all_of_them


def refresh_of(holder: BundleHolder[Any]) -> Refresh:
    """Looks at one holder's alias."""

    async def refresh() -> dict[str, Outcome]:
        changed = await holder.refresh(again=True)
        return {holder.service: {"version": holder.version, "changed": changed, "refused": holder.refused}}

    return refresh
