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
from cascade.serving.hot import Hot
from cascade.serving.internal import refresh_router, refreshed_by
from cascade.serving.threads import limit_torch
from cascade.serving.track_metrics import BundleMetrics
from cascade.serving.tracks import make_tracks
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
        tracks: routes.RetrievalTracks = make_tracks(
            "retrieval",
            settings,
            ModelStore(settings.model_store),
            load,
            warm_up,
            lambda holder: RetrievalEngine(holder).answer,
            app.state.metrics,
            app.state.bundle_metrics,
        )
        app.state.tracks, app.state.holder = tracks, tracks.stable.holder
        refreshed_by(app, tracks.refresh)
        await tracks.start()
        try:
            yield
        finally:
            await tracks.aclose()

    def tracks_of(app: FastAPI) -> routes.RetrievalTracks:
        tracks: routes.RetrievalTracks = app.state.tracks
        return tracks

    async def bundle_is_loaded(app: FastAPI) -> str | None:
        return tracks_of(app).not_ready()

    service = create_service_app(
        "retrieval",
        settings,
        lifespan,
        [routes.router, refresh_router(settings.internal_token)],
        checks={"bundle": bundle_is_loaded},
        versions=lambda app: tracks_of(app).versions(),
        hot=[Hot(routes.retrieve)],
        description="The catalog to a few hundred candidates: query tower and candidate index.",
    )
    service.state.bundle_metrics = BundleMetrics(service.state.metrics)
    return service
