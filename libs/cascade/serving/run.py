"""Runs a service's app in a process of its own."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from cascade.serving.settings import ServiceSettings


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight get `shutdown_timeout_s` to finish.

    Access logs are the app's own, and so is the form of uvicorn's lines.
    """
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
