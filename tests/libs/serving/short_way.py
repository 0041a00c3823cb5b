"""An app over a socket, where plain requests take the short way past ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from cascade.serving.direct_protocol import DirectProtocol


@asynccontextmanager
async def short_way(
    app: FastAPI, *, http: type[DirectProtocol] = DirectProtocol, **options: Any
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """The running server and its port; it has ended, lifespan and all, when the block has. options: of uvicorn"""
    config = uvicorn.Config(
        app,
        port=0,
        http=http,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        **options,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.005)
    try:
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running
