"""Spans by OpenTelemetry's SDK, sent to a collector by OTLP over HTTP. Imported only where an endpoint is set.

The SDK's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`) are heeded by it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextlib import suppress

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cascade.tracing import Attributes, Kind, Span

NAMESPACE = "cascade"
TRACES_PATH = "/v1/traces"
_EXPORT_TIMEOUT_S = 5.0
_FLUSH_S = 2.0
"""How long a service that ends waits for its last spans to be taken: a collector that hangs must not keep it."""
_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "client": trace.SpanKind.CLIENT,
    "server": trace.SpanKind.SERVER,
}
_CONTEXT_HEADERS = (b"traceparent", b"tracestate")
_NOWHERE = Context()


class OtlpTracer:
    """Begins the span of each request to one service, and hands finished spans to the collector in the background.

    Nothing waits for the collector: spans that it does not take in time are dropped, and the SDK logs that.

    endpoint: URL of the collector; TRACES_PATH is put behind it
    sample: share of the requests to collect, of those that come with no decision of a caller's
    """

    def __init__(self, service: str, endpoint: str, sample: float) -> None:
        self._exporter = OTLPSpanExporter(endpoint.rstrip("/") + TRACES_PATH, timeout=_EXPORT_TIMEOUT_S)
        self._processor = BatchSpanProcessor(self._exporter)
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create({SERVICE_NAME: service, SERVICE_NAMESPACE: NAMESPACE}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("cascade")
        self._propagator = TraceContextTextMapPropagator()

    def request(self, name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Attributes) -> Span:
        """Begin the span of a request: below its caller's, where it names one, else the first of a trace.

        headers: names in lower case
        """
        carried: dict[str, str] = {}
        for key, value in headers:
            if key in _CONTEXT_HEADERS:
                known, told = key.decode("ascii"), value.decode("latin-1")
                carried[known] = f"{carried[known]},{told}" if known in carried else told
        above = self._propagator.extract(carried, _NOWHERE) if carried else _NOWHERE
        return _OtelSpan(
            self._tracer,
            self._propagator,
            self._tracer.start_span(name, above, trace.SpanKind.SERVER, dict(attributes)),
        )

    async def aclose(self) -> None:
        """Send what is finished, for as long as that may take, and end the thread that sends."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # the loop is closed: it waited long enough
                loop.call_soon_threadsafe(done.set)

        # A daemon, and not the loop's own executor, which the end of the process would wait for.
        threading.Thread(target=shut_down, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await done.wait()
        except TimeoutError:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends its tries


class _OtelSpan:
    """See cascade.tracing.Span."""

    __slots__ = ("_context", "_one", "_propagator", "_tracer", "sampled")

    def __init__(self, tracer: trace.Tracer, propagator: TraceContextTextMapPropagator, one: trace.Span) -> None:
        self._tracer = tracer
        self._propagator = propagator
        self._one = one
        self._context: Context | None = None
        self.sampled: bool = one.is_recording()

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._one.get_span_context().trace_id)

    def child(self, name: str, kind: Kind, attributes: Attributes | None, began_ns: int | None = None) -> Span:
        one = self._tracer.start_span(
            name, self._within(), _KINDS[kind], None if attributes is None else dict(attributes), start_time=began_ns
        )
        return _OtelSpan(self._tracer, self._propagator, one)

    def note(self, attributes: Attributes) -> None:
        self._one.set_attributes(dict(attributes))

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        self._one.add_event(name, None if attributes is None else dict(attributes))

    def failed(self, error_type: str) -> None:
        self._one.set_attribute("error.type", error_type)
        self._one.set_status(trace.StatusCode.ERROR)

    def rename(self, name: str) -> None:
        self._one.update_name(name)

    def end(self, at_ns: int | None = None) -> None:
        self._one.end(at_ns)

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._within())
        return carrier

    def _within(self) -> Context:
        if self._context is None:
            self._context = trace.set_span_in_context(self._one, _NOWHERE)
        return self._context
