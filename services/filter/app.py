"""The filter service as an ASGI app.

uvicorn --factory services.filter.app:create_app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from cascade.online.connection import answers, connect
from cascade.online.generations import SeenShape
from cascade.online.interactions import Interactions
from cascade.online.pipelined import PipelinedRedis
from cascade.serving.app import create_service_app
from cascade.serving.hot import Hot
from cascade.serving.limit import ConcurrencyLimit
from services.filter import routes
from services.filter.engine import FilterEngine
from services.filter.settings import FilterSettings


def create_app(settings: FilterSettings | None = None) -> FastAPI:
    """The app; settings come from the environment where none are given."""
    settings = settings or FilterSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # One connection more than slots, so that readiness is not starved under load.
        url, timeout_s = settings.redis_url.get_secret_value(), settings.redis_timeout_ms / 1000
        client = connect(url, timeout_s=timeout_s, max_connections=settings.redis_connections + 1)
        # One connection each: a write that hangs takes no read with it.
        reader, writer = PipelinedRedis(url, timeout_s), PipelinedRedis(url, timeout_s)
        try:
            interactions = Interactions(
                client,
                SeenShape(settings.seen_capacity, settings.seen_error_rate),
                seen_ttl_s=settings.seen_ttl_s,
                cached_items=settings.cached_items,
                reader=reader,
                writer=writer,
            )
            limit = ConcurrencyLimit(settings.redis_connections, settings.queue_bound, app.state.metrics)
            app.state.engine = FilterEngine(interactions, limit, app.state.metrics)
            app.state.redis = client
            yield
        finally:
            await writer.aclose()
            await reader.aclose()
            await client.aclose()

    async def store_answers(app: FastAPI) -> str | None:
        return await answers(app.state.redis)

    return create_service_app(
        "filter",
        settings,
        lifespan,
        [routes.router],
        checks={"redis": store_answers},
        hot=[Hot(routes.filter_items)],
        description="Leaves out what a visitor saw lately, and records what they do.",
    )
