"""The ranker as an ASGI app.

uvicorn --factory services.ranker.app:create_app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from cascade.serving.app import create_service_app
from cascade.serving.hot import Hot
from cascade.serving.internal import refresh_router, refreshed_by
from cascade.serving.threads import limit_torch
from cascade.serving.track_metrics import BundleMetrics
from cascade.serving.tracks import make_tracks
from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts
from services.ranker import routes
from services.ranker.engine import RankerEngine, warm_up
from services.ranker.settings import RankerSettings


def create_app(settings: RankerSettings | None = None) -> FastAPI:
    """The app; settings come from the environment where none are given."""
    settings = settings or RankerSettings()

    def load(path: Path) -> RankerArtifacts:
        bundle = RankerArtifacts.load(path, settings.device, settings.precompute_max_mb * 2**20)
        limit_torch(settings.threads)
        return bundle

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tracks: routes.RankerTracks = make_tracks(
            "ranker",
            settings,
            ModelStore(settings.model_store),
            load,
            warm_up,
            lambda holder: RankerEngine(holder, app.state.metrics).rank,
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

    def tracks_of(app: FastAPI) -> routes.RankerTracks:
        tracks: routes.RankerTracks = app.state.tracks
        return tracks

    async def bundle_is_loaded(app: FastAPI) -> str | None:
        return tracks_of(app).not_ready()

    service = create_service_app(
        "ranker",
        settings,
        lifespan,
        [routes.router, refresh_router(settings.internal_token)],
        checks={"bundle": bundle_is_loaded},
        versions=lambda app: tracks_of(app).versions(),
        hot=[Hot(routes.rank)],
        description="Click probabilities of candidates by a DLRM over item features in memory.",
    )
    service.state.bundle_metrics = BundleMetrics(service.state.metrics)
    return service
