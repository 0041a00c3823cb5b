"""Pure ASGI middlewares. None copies the request or buffers the response.

`create_service_app` stacks them; the order there is part of their meaning.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade import deadline, tracing
from cascade.api.headers import REQUEST_ID_HEADER
from cascade.serving import context, problems
from cascade.serving.logging import get_logger
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.responses import JsonResponse

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ID_HEADER = REQUEST_ID_HEADER.encode()
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""On every response: a browser takes a body for what its type says."""
UNMATCHED = "unmatched"
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked again and again by machines: not logged, not traced."""

log = get_logger(__name__)


class RequestContext:
    """Gives each request its id (the caller's if sane, else a new one), and hands it back in the response; and its
    deadline, where the caller tells one."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [one for one in message.get("headers", ()) if one[0] != _ID_HEADER]
                message["headers"] = [*headers, (_ID_HEADER, request_id.encode("ascii")), NO_SNIFFING]
            await send(message)

        id_token = context.request_id.set(request_id)
        service_token = context.service.set(self.service)
        key_token = context.api_key.set(None)
        deadline_token = deadline.begin(scope["headers"])
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            deadline.end(deadline_token)
            context.api_key.reset(key_token)
            context.service.reset(service_token)
            context.request_id.reset(id_token)


class Telemetry:
    """Counts, times and logs each request once its response is whole, or given up.

    log_all: also those that met no problem
    """

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics, *, log_all: bool = True) -> None:
        self.app = app
        self.metrics = metrics
        self.log_all = log_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        ended: float | None = None
        status = 499  # the caller went away before any answer

        async def send_and_note(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body"):
                # Before it is sent: on few cores the caller may run first, and its time is not this service's.
                ended = time.perf_counter()
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            told(self.metrics, scope, status, (ended or time.perf_counter()) - started, self.log_all)


class InternalErrors:
    """The last resort: an exception that nothing else answered is logged whole and answered without detail."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            response = last_resort(self.metrics, scope, error)
            if begun:
                raise  # half a response is out: only the server can break the connection
            await response(scope, receive, send)


class BodyLimit:
    """Refuses bodies beyond the limit, declared or not, before they are held in memory."""

    def __init__(self, app: ASGIApp, limit: int, metrics: ServiceMetrics) -> None:
        self.app = app
        self.limit = limit
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"").decode("latin-1")
        if declared.isascii() and declared.isdigit() and int(declared) > self.limit:
            problem = problems.body_too_large(self.limit)
            self.metrics.error(problem.kind)
            await problems.problem_response(problem, scope)(scope, receive, send)
            return
        await self.app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.limit:
                    # An HTTPException, because FastAPI turns any other error while it reads the body into a 400.
                    raise problems.BodyTooLarge(self.limit)
            return message

        return receive_bounded


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id that a request was given by its caller if it is sane, else a new one. headers: names in lower case."""
    offered = next((value for name, value in headers if name == _ID_HEADER), b"").decode("latin-1")
    return offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex


def told(metrics: ServiceMetrics, scope: Scope, status: int, seconds: float, log_all: bool) -> None:
    """Count, time and log one answered request. log_all: also where it met no problem."""
    route = route_of(scope)
    metrics.request(route, scope["method"], status, seconds)
    quiet = route in QUIET_ROUTES or not (log_all or status >= 400)
    write = log.debug if quiet else log.info
    write(
        "request",
        method=scope["method"],
        route=route,
        path=scope["path"],
        status=status,
        ms=round(1000 * seconds, 3),
    )


def last_resort(metrics: ServiceMetrics, scope: Scope, error: Exception) -> JsonResponse:
    """The response to an exception that nothing else answered. Called while it is being handled, for the log."""
    problem = problems.internal(error)
    metrics.error(problem.kind)
    tracing.note("cascade.problem", problem.kind)
    log.exception("unhandled error", method=scope["method"], route=route_of(scope))
    return problems.problem_response(problem, scope)


def route_of(scope: Scope) -> str:
    """The route's template (`/v1/items/{item_id}`), so that labels stay few."""
    return getattr(scope.get("route"), "path", UNMATCHED)
