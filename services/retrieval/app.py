"""The retrieval service as an ASGI app.

uvicorn --factory services.retrieval.app:create_app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI

from cascade.index.gpu import on_gpu
from cascade.serving.app import create_service_app
from cascade.serving.batching import MicroBatcher
from cascade.serving.hot import Hot
from cascade.serving.internal import refresh_of, refresh_router, refreshed_by
from cascade.serving.reload import BundleHolder
from cascade.serving.threads import limit_torch
from cascade.store import ModelStore
from cascade.store.artifacts import RetrievalArtifacts
from services.retrieval import routes
from services.retrieval.engine import RetrievalEngine, warm_up
from services.retrieval.settings import RetrievalSettings


def create_app(settings: RetrievalSettings | None = None) -> FastAPI:
    """The app; settings come from the environment where none are given."""
    settings = settings or RetrievalSettings()

    def load(path: Path) -> RetrievalArtifacts:
        bundle = RetrievalArtifacts.load(path, settings.threads, settings.device)
        if settings.device != "cpu":
            bundle = replace(bundle, index=on_gpu(bundle.index))
        limit_torch(settings.threads)
        return bundle

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        holder = BundleHolder(
            ModelStore(settings.model_store),
            "retrieval",
            settings.alias,
            load,
            warm_up,
            poll_s=settings.alias_poll_s,
            metrics=app.state.metrics,
        )
        batcher: routes.Batcher = MicroBatcher(
            RetrievalEngine(holder).answer,
            max_size=settings.batch_max_size,
            max_wait_s=settings.batch_max_wait_ms / 1000,
            queue_bound=settings.queue_bound,
            in_thread=settings.batch_in_thread,
            metrics=app.state.metrics,
            name="retrieval",
        )
        app.state.holder, app.state.batcher = holder, batcher
        refreshed_by(app, refresh_of(holder))
        await holder.start()
        try:
            yield
        finally:
            await batcher.aclose()
            await holder.aclose()

    async def bundle_is_loaded(app: FastAPI) -> str | None:
        holder: BundleHolder[RetrievalArtifacts] = app.state.holder
        return holder.not_ready()

    def versions(app: FastAPI) -> dict[str, str]:
        holder: BundleHolder[RetrievalArtifacts] = app.state.holder
        return holder.versions()

    return create_service_app(
        "retrieval",
        settings,
        lifespan,
        [routes.router, refresh_router(settings.internal_token)],
        checks={"bundle": bundle_is_loaded},
        versions=versions,
        hot=[Hot(routes.retrieve)],
        description="The catalog to a few hundred candidates: query tower and candidate index.",
    )
