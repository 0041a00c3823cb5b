"""A collector of traces for the tests: takes OTLP over HTTP as a real one does, and remembers."""

from __future__ import annotations

import gzip
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Collected:
    """A span as it arrived. parent: id of the span above it, "" where there is none; kind: OTLP's number."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool
    began_ns: int
    ended_ns: int


class Collector:
    """Listens on a port of its own from `with` to the end of the block.

    status: what it answers
    """

    def __init__(self, status: int = 200) -> None:
        self.spans: list[Collected] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces" and status == 200:
                    collector._take(body, dict(self.headers))
                self.send_response(status if self.path == "/v1/traces" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The tests' output is not the place."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trace(self, trace_id: str) -> list[Collected]:
        """The spans of a trace, in the order of their beginnings."""
        return sorted((one for one in self.spans if one.trace_id == trace_id), key=lambda one: one.began_ns)

    def wait_for(self, trace_id: str, count: int, seconds: float = 30) -> list[Collected]:
        """The spans of a trace, once there are so many; those there are, when the time is over."""
        limit = time.monotonic() + seconds
        while len(self.trace(trace_id)) < count and time.monotonic() < limit:
            time.sleep(0.05)
        return self.trace(trace_id)

    def paths(self, trace_id: str) -> list[str]:
        """Each span of a trace as the way to it from the top: `gateway:POST /v1/recommendations > gateway:filter`."""
        spans = {one.span_id: one for one in self.trace(trace_id)}

        def path(one: Collected) -> str:
            above = spans.get(one.parent)
            own = f"{one.service}:{one.name}"
            return own if above is None else f"{path(above)} > {own}"

        return sorted(map(path, spans.values()))

    def _take(self, body: bytes, headers: dict[str, str]) -> None:
        self.bodies.append(body)
        self.headers.append(headers)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [
                    Collected(
                        service,
                        one.name,
                        one.trace_id.hex(),
                        one.span_id.hex(),
                        one.parent_span_id.hex(),
                        one.kind,
                        _attributes(one.attributes),
                        [(event.name, _attributes(event.attributes)) for event in one.events],
                        one.status.code == 2,
                        one.start_time_unix_nano,
                        one.end_time_unix_nano,
                    )
                    for one in scope.spans
                ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
