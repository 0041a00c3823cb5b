"""The short way to a hot route: whole requests as bytes in, whole responses as bytes out, no ASGI between.

ASGI hands a request over in messages through four middlewares and back, each a coroutine with closures of its own: half
of the processor time of a service whose work is small. What the middlewares do is done here in order, by the same
functions: the request's id, the guard, the bound on bodies, telemetry, the last resort.
`tests/libs/serving/test_direct.py` holds both ways to the same answers.

Only plain requests come this way (`DirectRoutes.read`). Anything unusual in a request's head is left to the server's
own parser: this one never has to decide what a doubtful request means.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from cascade import deadline
from cascade.api.headers import REQUEST_ID_HEADER
from cascade.serving import context
from cascade.serving.errors import QueueFull
from cascade.serving.guard import Guard, refusal_of
from cascade.serving.hot import HotRoute, HotRoutes
from cascade.serving.logging import get_logger
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.middleware import NO_SNIFFING, last_resort, request_id_of, told
from cascade.serving.problems import overloaded, problem_response
from cascade.serving.traced import RequestSpans

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""

_END = b"\r\n\r\n"
_HEAD = re.compile(rb"POST [!-~]+ HTTP/1\.1(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)+")
_UNUSUAL = frozenset({b"transfer-encoding", b"connection", b"expect", b"upgrade", b"trailer", b"te"})
_LENGTH = re.compile(rb"[0-9]{1,9}")
_LONGEST_HEAD = 8192
_STATUS_LINES: Mapping[int, bytes] = {one: f"HTTP/1.1 {one:d} {one.phrase}\r\n".encode() for one in HTTPStatus}
_LAST_LINES = b": ".join(NO_SNIFFING) + _END
_REFUSALS_TOLD_EVERY_S = 1.0

log = get_logger(__name__)


class Reading(Enum):
    """What bytes are that are no whole plain request."""

    PART = "the beginning of one: its body is still on the way"
    OTHER = "something else: for the server's own parser"


@dataclass(frozen=True)
class PlainRequest:
    """A whole request for a hot route."""

    route: HotRoute
    headers: Headers
    body: bytes


class DirectRoutes:
    """The hot routes of one app, from bytes to bytes.

    log_all: log also the requests that met no problem
    limit: the longest body in bytes; longer ones are left to ASGI, which refuses them
    with_origin: take also requests that name an origin; otherwise they are left to ASGI, where CORS is
    spans: where traces are collected; what is refused before its body is read has none, it must stay cheap
    """

    def __init__(
        self,
        app: FastAPI,
        hot: HotRoutes,
        metrics: ServiceMetrics,
        guard: Guard,
        *,
        log_all: bool,
        limit: int,
        with_origin: bool = True,
        spans: RequestSpans | None = None,
    ) -> None:
        self._app = app
        self._hot = hot
        self._metrics = metrics
        self._guard = guard
        self._unusual = _UNUSUAL if with_origin else _UNUSUAL | {b"origin"}
        self._log_all = log_all
        self._limit = limit
        self._spans = spans
        self._lines = {f"POST {path} HTTP/1.1".encode("ascii"): route for path, route in hot.routes.items()}
        self._refused = 0
        self._refusals_told = 0.0

    def read(self, data: bytes) -> PlainRequest | Reading:
        """A plain request, if the bytes are exactly one: POST, HTTP/1.1, a known path, a declared length."""
        line_end = data.find(b"\r\n", 0, _LONGEST_HEAD)
        route = self._lines.get(data[:line_end]) if line_end > 0 else None
        if route is None:
            return Reading.OTHER
        end = data.find(_END, line_end, _LONGEST_HEAD)
        if end < 0 or _HEAD.fullmatch(data, 0, end) is None:
            return Reading.OTHER
        headers: Headers = []
        length: bytes | None = None
        for line in data[line_end + 2 : end].split(b"\r\n"):
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t")
            if name in self._unusual or (name == b"content-length" and length is not None):
                return Reading.OTHER
            if name == b"content-length":
                length = value
            headers.append((name, value))
        if length is None or _LENGTH.fullmatch(length) is None or int(length) > self._limit:
            return Reading.OTHER
        missing = int(length) - (len(data) - end - len(_END))
        if missing:
            return Reading.PART if missing > 0 else Reading.OTHER
        return PlainRequest(route, headers, data[end + len(_END) :])

    def refusal(self, request: PlainRequest) -> bytes | None:
        """The response to a request that cannot be admitted now, made before its body is read; else None."""
        bound = request.route.bound
        if bound is None or not bound(self._app).full:
            return None
        started = time.perf_counter()
        problem = overloaded(QueueFull(""))
        scope = self._scope(request)
        token = context.request_id.set(request_id_of(request.headers))
        try:
            self._metrics.error(problem.kind)
            content = self._bytes(problem_response(problem, scope))
            self._metrics.request(request.route.route.path, "POST", problem.status, time.perf_counter() - started)
            self._tell_refusal(started)
        finally:
            context.request_id.reset(token)
        return content

    async def answer(self, request: PlainRequest) -> bytes:
        """The whole response. Runs in a task of its own, whose context is the request's."""
        started = time.perf_counter()
        context.request_id.set(request_id_of(request.headers))
        context.service.set(self._metrics.service)
        deadline.begin(request.headers)
        scope = self._scope(request)
        if self._spans is None:
            return (await self._respond(request, scope, started))[0]
        with self._spans.begin("POST", request.headers) as span:
            content, status = await self._respond(request, scope, started)
            self._spans.answered(span, scope, status)
            return content

    async def _respond(self, request: PlainRequest, scope: dict[str, Any], started: float) -> tuple[bytes, int]:
        """The whole response, and its status."""
        try:
            refusal = await refusal_of(self._guard, self._metrics, scope)
            response = refusal or await self._hot.respond(request.route, Request(scope), request.body)
        except Exception as error:
            response = last_resort(self._metrics, scope, error)
        content = self._bytes(response)
        told(self._metrics, scope, response.status_code, time.perf_counter() - started, self._log_all)
        return content, response.status_code

    def _scope(self, request: PlainRequest) -> dict[str, Any]:
        """What a Request needs to be asked for its app, its headers, its path."""
        path = request.route.route.path
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": b"",
            "root_path": "",
            "headers": request.headers,
            "client": None,
            "server": None,
            "app": self._app,
            "route": request.route.route,
        }

    def _bytes(self, response: Response) -> bytes:
        parts = [_STATUS_LINES[response.status_code]]
        for name, value in response.raw_headers:
            if b"\r" in value or b"\n" in value or b"\0" in value:
                raise ValueError(f"a line break in the header {name!r}: {value!r}")
            parts += (name, b": ", value, b"\r\n")
        request_id = context.request_id.get() or ""  # sane by `request_id_of`
        parts.append(f"{REQUEST_ID_HEADER}: {request_id}\r\n".encode("ascii"))
        parts.append(_LAST_LINES)
        parts.append(bytes(response.body))
        return b"".join(parts)

    def _tell_refusal(self, now: float) -> None:
        """One line a second: at overload a line for each would cost as much as the refusal."""
        self._refused += 1
        if now - self._refusals_told >= _REFUSALS_TOLD_EVERY_S:
            log.warning("requests refused", service=self._metrics.service, count=self._refused, status=429)
            self._refused, self._refusals_told = 0, now
