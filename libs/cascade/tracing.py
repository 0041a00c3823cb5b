"""Traces: the span that the running task is in, and the spans below it.

Where nobody collects traces, which is the default, no request has a span, OpenTelemetry's SDK is not imported, and
every place below costs one look at a context variable that is None. Where somebody does, `cascade.serving.traced` opens
the span of each request (`cascade.serving.otlp` makes it), and whatever works for that request finds it here.

    with tracing.span("retrieval"):
        ...

Spans name kinds of things, never people: no user id, no key, no text of an error stands in one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Literal, Protocol

Kind = Literal["internal", "client", "server"]
Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

TRACE_ID = "trace_id"
"""The name of a trace's id in exemplars and log lines."""


class Span(Protocol):
    """A part of the work for one request: when, how long, below which other part.

    trace_id: 32 hexadecimal digits
    sampled: whether it is collected; of a request that is not, the one span is there to be told to the next hop
    """

    @property
    def trace_id(self) -> str: ...

    @property
    def sampled(self) -> bool: ...

    def child(self, name: str, kind: Kind, attributes: Attributes | None, began_ns: int | None = None) -> Span:
        """Begin a part of this. began_ns: nanoseconds since 1970 (UTC); none: now."""

    def note(self, attributes: Attributes) -> None:
        """Add what became known meanwhile."""

    def rename(self, name: str) -> None:
        """Give it the name that became known meanwhile."""

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Add something that happened at this moment."""

    def failed(self, error_type: str) -> None:
        """It gave no result. error_type: the name of a class of errors or of a problem, no message."""

    def end(self, at_ns: int | None = None) -> None:
        """It is over. at_ns: nanoseconds since 1970 (UTC); none: now."""

    def headers(self) -> dict[str, str]:
        """What a call to the next hop carries, so that its spans stand below this one (W3C Trace Context)."""


_span: ContextVar[Span | None] = ContextVar("cascade_span", default=None)
NOTHING: AbstractContextManager[None] = nullcontext()
"""In place of a span where there is none to make."""


class Entered:
    """The block works within a span, which ends with it; an error that leaves the block is the span's."""

    __slots__ = ("_one", "_token")

    def __init__(self, one: Span) -> None:
        self._one = one
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Span:
        self._token = _span.set(self._one)
        return self._one

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._token is not None:
            _span.reset(self._token)
        if error_type is not None:
            self._one.failed(error_type.__name__)
        self._one.end()


def current() -> Span | None:
    """The span that the running task is in; None where requests are not traced, and outside of them."""
    return _span.get()


def span(
    name: str, kind: Kind = "internal", attributes: Attributes | None = None
) -> AbstractContextManager[Span | None]:
    """The block is a part of what the running task does, where that is traced and collected."""
    above = _span.get()
    if above is None or not above.sampled:
        return NOTHING
    return Entered(above.child(name, kind, attributes))


def past(name: str, began: float, ended: float) -> None:
    """A part that is over already. began, ended: seconds of `time.perf_counter`."""
    above = _span.get()
    if above is None or not above.sampled:
        return
    since_ns = time.time_ns() - time.perf_counter_ns()
    above.child(name, "internal", None, since_ns + int(began * 1e9)).end(since_ns + int(ended * 1e9))


def note(name: str, value: Value) -> None:
    """Add something to the span that the running task is in, if it is in any."""
    one = _span.get()
    if one is not None:
        one.note({name: value})


def event(name: str, attributes: Attributes) -> None:
    """Something happened to what the running task does."""
    one = _span.get()
    if one is not None:
        one.event(name, attributes)


def headers() -> dict[str, str]:
    """What a call to the next hop carries; nothing where there is no span."""
    one = _span.get()
    return {} if one is None else one.headers()


def trace_id() -> str | None:
    """Of the request being answered, collected or not: every hop's log lines have the same one."""
    one = _span.get()
    return None if one is None else one.trace_id


def exemplar() -> dict[str, str] | None:
    """What ties a measured value to its trace; None where no collector has that trace."""
    one = _span.get()
    return {TRACE_ID: one.trace_id} if one is not None and one.sampled else None
