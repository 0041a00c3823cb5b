"""All four services in one process: the gateway calls the other three over ASGI instead of TCP.

    python -m services.one_process
    uvicorn --factory services.one_process:create_app

The apps, their settings and their answers are those of the separate processes; only the gateway's callers differ.
Only the gateway listens, and its internal endpoint refreshes the bundles of all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI

from cascade.serving.asgi_calls import AsgiCaller
from cascade.serving.internal import refreshed_by
from cascade.serving.run import serve
from cascade.serving.threads import limit_process
from services.filter.settings import FilterSettings
from services.gateway.settings import GatewaySettings
from services.ranker.settings import RankerSettings
from services.retrieval.settings import RetrievalSettings


@dataclass(frozen=True)
class AllSettings:
    """Each service's own settings, from the environment where none are given."""

    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    ranker: RankerSettings = field(default_factory=RankerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)


def create_app(settings: AllSettings | None = None) -> FastAPI:
    """The gateway's app, with the other three inside: it starts them first and stops them last."""
    # Not before: BLAS reads its number of threads when it is loaded, and `limit_process` sets it.
    from services.filter.app import create_app as create_filter
    from services.gateway.app import create_app as create_gateway
    from services.ranker.app import create_app as create_ranker
    from services.retrieval.app import create_app as create_retrieval

    settings = settings or AllSettings()
    behind = {
        "retrieval": create_retrieval(settings.retrieval),
        "filter": create_filter(settings.filter),
        "ranker": create_ranker(settings.ranker),
    }
    gateway = create_gateway(
        settings.gateway,
        {name: AsgiCaller(app) for name, app in behind.items()},
    )
    own_lifespan = gateway.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for service in behind.values():
                await stack.enter_async_context(service.router.lifespan_context(service))
            await stack.enter_async_context(own_lifespan(app))
            holding = (*behind.values(), app)
            refreshed_by(app, *(one.state.refresh for one in holding if hasattr(one.state, "refresh")))
            yield

    gateway.router.lifespan_context = lifespan
    return gateway


if __name__ == "__main__":
    everything = AllSettings()
    limit_process(max(everything.retrieval.threads, everything.ranker.threads))
    serve(create_app(everything), everything.gateway)
