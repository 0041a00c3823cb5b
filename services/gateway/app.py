"""The gateway as an ASGI app.

uvicorn --factory services.gateway.app:create_app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from cascade.serving.app import create_service_app
from cascade.serving.hot import Hot
from cascade.serving.internal import Outcome, refresh_of, refresh_router, refreshed_by
from services.gateway import page, routes, shop_routes
from services.gateway.access import ApiGuard
from services.gateway.container import Callers, Gateway, open_gateway
from services.gateway.context import Clock, system_clock
from services.gateway.problems import PROBLEMS
from services.gateway.settings import GatewaySettings
from services.gateway.storefront import model_routes, pages
from services.gateway.storefront import routes as storefront_routes

_DESCRIPTION = (
    "Recommendations for the visitors of an online shop. Errors are RFC 9457 problem details that name the field."
)


def create_app(
    settings: GatewaySettings | None = None, callers: Callers | None = None, clock: Clock = system_clock
) -> FastAPI:
    """The public API; settings come from the environment where none are given.

    callers: stand in for TCP to `retrieval`, `filter` or `ranker`
    clock: UTC seconds; what a request without a time is given
    """
    settings = settings or GatewaySettings()
    guard = ApiGuard(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            gateway = await open_gateway(settings, app.state.metrics, guard, stack, callers, clock)
            app.state.gateway = gateway
            refreshed_by(app, partial(_refresh, gateway))
            yield

    def gateway_in(app: FastAPI) -> Gateway:
        gateway: Gateway = app.state.gateway
        return gateway

    async def bundle_is_loaded(app: FastAPI) -> str | None:
        return gateway_in(app).holder.not_ready()

    # Whatever else is down only degrades: it is told and decides nothing.
    async def dependencies(app: FastAPI) -> dict[str, str]:
        return await gateway_in(app).dependency_states()

    # Without the storefront a plain page stands in its place.
    front = [page.router]
    if settings.storefront:
        front = [pages.router, storefront_routes.router, model_routes.router]
    service = create_service_app(
        "gateway",
        settings,
        lifespan,
        [*front, routes.router, shop_routes.router, refresh_router(settings.internal_token)],
        checks={"bundle": bundle_is_loaded},
        reports={"dependencies": dependencies},
        versions=lambda app: gateway_in(app).versions(),
        problems=PROBLEMS,
        hot=[Hot(routes.recommend, lambda app: app.state.gateway.lists, strict=True)],
        guard=guard,
        cors_origins=settings.cors_origins,
        trusting=settings.trace_header,
        description=_DESCRIPTION,
    )
    if settings.storefront:
        service.mount(f"{pages.PREFIX}/files", pages.Files(), name="storefront")
    if settings.images_dir is not None:
        service.mount("/images", Pictures(directory=settings.images_dir, check_dir=False), name="images")
    return service


async def _refresh(gateway: Gateway) -> dict[str, Outcome]:
    """Look at the alias and at the canaries now; `canaries` tells the share of users of those that run, percent."""
    told = dict(await refresh_of(gateway.holder)())
    shares = {service: percent for service, percent in (await gateway.canaries.look()).items() if percent}
    return {name: {**outcome, "canaries": shares} for name, outcome in told.items()} if shares else told


class Pictures(StaticFiles):
    """Files of one folder; paths that leave it, by `..` or by links, are not found."""

    async def check_config(self) -> None:
        """A folder that is not there (yet) has no pictures, which is no error."""
