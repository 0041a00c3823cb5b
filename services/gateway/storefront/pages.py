"""The pages and their files: HTML, CSS and JavaScript as they are, from this service alone.

Nothing is built and nothing comes from another host; the policy sent along forbids it, and with it every script and
style that is not one of these files.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).with_name("static")
PREFIX = "/storefront"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # Asked again each time, and answered 304: a page never runs with scripts of another release.
    "cache-control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def shop() -> Response:
    """The shop."""
    return _page("shop.html")


@router.get(f"{PREFIX}/models")
async def models() -> Response:
    """Versions, metrics, promotion."""
    return _page("models.html")


@router.get(f"{PREFIX}/live")
async def live() -> Response:
    """What the gateway does now."""
    return _page("live.html")


class Files(StaticFiles):
    """The pages' files, with the same headers."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See StaticFiles."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def _page(name: str) -> Response:
    return FileResponse(STATIC / name, headers=_HEADERS)
