"""Where requests get their spans, if somebody collects them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.serving import context
from cascade.serving.errors import NoTracing
from cascade.serving.metrics import METHODS
from cascade.serving.middleware import QUIET_ROUTES, UNMATCHED, route_of
from cascade.serving.settings import ServiceSettings
from cascade.tracing import Attributes, Entered, Span

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_FAILURES_FROM = 500


class Tracer(Protocol):
    """Begins the spans of requests."""

    def request(self, name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Attributes) -> Span:
        """The span of a request. headers: names in lower case; they may name the caller's span."""

    async def aclose(self) -> None:
        """Send what is finished."""


class RequestSpans:
    """Opens the span of each request to one service.

    trusting: a caller's `traceparent` is followed; otherwise each request begins a trace of its own
    """

    def __init__(self, tracer: Tracer, *, trusting: bool = True) -> None:
        self._tracer = tracer
        self._trusting = trusting

    def begin(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Entered:
        """The block answers a request; its id is known to `context`."""
        known = method if method in METHODS else "_OTHER"
        attributes: dict[str, str] = {"http.request.method": known}
        request_id = context.request_id.get()
        if request_id is not None:
            attributes["cascade.request_id"] = request_id
        return Entered(self._tracer.request(known, headers if self._trusting else (), attributes))

    @staticmethod
    def answered(span: Span, scope: Scope, status: int | None) -> None:
        """Tell which route answered, and how. status: None where the caller went away before any answer."""
        route = route_of(scope)
        if route != UNMATCHED:  # a path that is no route's may hold anything
            span.rename(f"{scope['method']} {route}")
            span.note({"http.route": route})
        if status is not None:
            span.note({"http.response.status_code": status})
            if status >= _FAILURES_FROM:
                span.failed(str(status))

    async def aclose(self) -> None:
        """Send what is finished."""
        await self._tracer.aclose()


class Traced:
    """ASGI: a span for each request but probes and metrics. It is there only where somebody collects traces."""

    def __init__(self, app: ASGIApp, spans: RequestSpans) -> None:
        self.app = app
        self.spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET_ROUTES:
            await self.app(scope, receive, send)
            return
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.spans.begin(scope["method"], scope["headers"]) as span:
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                self.spans.answered(span, scope, status)


def request_spans(service: str, settings: ServiceSettings, *, trusting: bool = True) -> RequestSpans | None:
    """What the settings ask for; None without an endpoint. Raises NoTracing where what sends them is not installed."""
    if settings.tracing_endpoint is None:
        return None
    try:
        from cascade.serving.otlp import OtlpTracer
    except ImportError as error:
        prefix = settings.model_config.get("env_prefix", "")
        raise NoTracing(
            f"{prefix}TRACING_ENDPOINT is {settings.tracing_endpoint!r}, and {error.name or error} is not installed: "
            "pip install 'cascade-recommender[tracing]', or leave the setting out"
        ) from error
    return RequestSpans(OtlpTracer(service, settings.tracing_endpoint, settings.tracing_sample), trusting=trusting)


def sending_last_spans(lifespan: Lifespan, spans: RequestSpans) -> Lifespan:
    """The lifespan; after it, the spans of its last requests are sent."""

    @asynccontextmanager
    async def spanned(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app):
                yield
        finally:
            await spans.aclose()

    return spanned
