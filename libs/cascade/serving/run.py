"""Runs a service's app in a process of its own."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from fastapi import FastAPI

from cascade.serving.direct_protocol import DirectProtocol
from cascade.serving.settings import ServiceSettings

_GC_THRESHOLDS = (70_000, 10, 10)
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter lock while another wants it; Python's 5 ms are longer than a request."""

KEEP_ALIVE_S = 75
"""How long an idle connection stays open; the gateway gives its own up sooner."""


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight get `shutdown_timeout_s` to finish.

    Access logs are the app's own, and so is the form of uvicorn's lines.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app.router.lifespan_context = _freezing(app.router.lifespan_context)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=DirectProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # nothing here looks at the caller's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )


def _freezing(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[object]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan, with everything it made moved out of the garbage collector's sight.

    Libraries, catalogs and models live as long as the process; a full collection that walks them stops every request
    for tenths of a second.
    """

    @asynccontextmanager
    async def frozen(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            gc.collect()
            gc.freeze()
            # A request makes hundreds of objects and no cycles: look for those a hundred times less often.
            gc.set_threshold(*_GC_THRESHOLDS)
            yield

    return frozen
