"""The features worker as an ASGI app: health, readiness and metrics; the work is done by threads beside it.

uvicorn --factory services.features.app:create_app
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from cascade.errors import CascadeError
from cascade.online.connection import answers, connect
from cascade.serving.app import create_service_app
from cascade.serving.internal import refresh_of, refresh_router, refreshed_by
from cascade.serving.logging import get_logger
from cascade.serving.reload import BundleHolder
from cascade.store import ModelStore
from cascade.store.artifacts import GatewayArtifacts
from services.features.rows import Catalog
from services.features.settings import FeaturesSettings
from services.features.telemetry import Telemetry
from services.features.worker import Worker

CATALOG_BUNDLE = "gateway"
"""The bundle that holds the catalog."""

log = get_logger(__name__)


def load_catalog(folder: Path) -> Catalog:
    """Item id → category_l1, of the gateway's bundle."""
    return {item_id: row["category_l1"] for item_id, row in GatewayArtifacts.load(folder).items.items()}


def _quiet_feast() -> None:
    """Of each push Feast tells that it looked at its registry, and it shows every deprecation of the ibis it uses."""
    logging.getLogger("feast").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)


def create_app(settings: FeaturesSettings | None = None) -> FastAPI:
    """The app; settings come from the environment where none are given."""
    settings = settings or FeaturesSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            holder: BundleHolder[Catalog] = BundleHolder(
                ModelStore(settings.model_store),
                CATALOG_BUNDLE,
                settings.alias,
                load_catalog,
                poll_s=settings.alias_poll_s,
                metrics=app.state.metrics,
            )
            client = connect(
                settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_ms / 1000, max_connections=2
            )
            stack.push_async_callback(client.aclose)
            worker = Worker(settings, lambda: holder.current.value, Telemetry(app.state.metrics))
            app.state.holder, app.state.redis, app.state.worker = holder, client, worker
            await holder.start()
            stack.push_async_callback(holder.aclose)
            refreshed_by(app, refresh_of(holder))
            try:
                await asyncio.to_thread(worker.warm_up)
            except CascadeError as error:
                log.warning("user features are not there yet", error=str(error))
            _quiet_feast()
            worker.start()
            log.info("worker reads", name=worker.name)
            try:
                yield
            finally:
                await asyncio.to_thread(worker.stop)

    async def catalog_is_loaded(app: FastAPI) -> str | None:
        holder: BundleHolder[Catalog] = app.state.holder
        return holder.not_ready()

    async def store_answers(app: FastAPI) -> str | None:
        return await answers(app.state.redis)

    async def works(app: FastAPI) -> str | None:
        worker: Worker = app.state.worker
        return worker.trouble()

    def versions(app: FastAPI) -> dict[str, str]:
        holder: BundleHolder[Catalog] = app.state.holder
        return holder.versions()

    return create_service_app(
        "features",
        settings,
        lifespan,
        [refresh_router(settings.internal_token)],
        checks={"catalog": catalog_is_loaded, "redis": store_answers, "streams": works},
        versions=versions,
        description="Turns interaction events into fresh user features, and into Parquet exactly once.",
    )
