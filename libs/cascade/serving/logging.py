"""Structured logs: one JSON object a line on stdout, each with service, request id and, where it is traced, trace id.

Lines of the standard library's loggers (uvicorn and others) take the same form.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Callable
from typing import TextIO
from urllib.parse import unquote

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from cascade import tracing
from cascade.serving import context
from cascade.serving.settings import LogFormat, LogLevel

_USER_FIELDS = frozenset({"user", "user_id"})
_USER_PATH = re.compile(r"(/v1/(?:users|seen)/)(.+?)(/history|/events)?", re.DOTALL)
"""A path, decoded, that names a user."""
_USER_PATHS = re.compile(r"(/v1/(?:users|seen)/)(?!\{)([^\s\"]+?)(/history|/events)?(?=[\s\"?:]|$)")
"""Such paths within a text, encoded; `{user_id:path}` of a route's template is none."""


def get_logger(name: str) -> FilteringBoundLogger:
    """Logger of a module or service. It reads the configuration at its first line, so modules make it at import."""
    logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    return logger


def configure_logging(
    level: LogLevel = "info", log_format: LogFormat = "json", *, hash_users: bool = False, force: bool = False
) -> None:
    """Set up logs for the process. The first call decides; later ones do nothing unless forced.

    hash_users: ids of users stand in the log by a digest
    """
    if structlog.is_configured() and not force:
        return
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        _add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_hash_users] if hash_users else []),
    ]
    finish: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
        if log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the rich one prints every local: slow, and secrets
            )
        ]
    )
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _StdoutLogger(),
        cache_logger_on_first_use=True,
    )
    handler = _StdoutHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _StdoutHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.INFO))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line for each hop otherwise


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request_id = context.request_id.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    trace_id = tracing.trace_id()
    if trace_id is not None:
        event.setdefault(tracing.TRACE_ID, trace_id)
    api_key = context.api_key.get()
    if api_key is not None:
        event.setdefault("api_key", api_key)
    service = context.service.get()
    if service is not None:
        event.setdefault("service", service)
    return event


def _hash_users(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The one personal datum that a line may hold: the id of a user, in a field of its own or in a path."""
    for name, value in event.items():
        if not isinstance(value, str):
            continue
        if name in _USER_FIELDS:
            event[name] = _digest(value)
        elif name == "path":
            found = _USER_PATH.fullmatch(value)
            event[name] = value if found is None else f"{found[1]}{_digest(found[2])}{found[3] or ''}"
        else:
            event[name] = _USER_PATHS.sub(
                lambda found: f"{found[1]}{_digest(unquote(found[2]))}{found[3] or ''}", value
            )
    return event


def _digest(user_id: str) -> str:
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _add_logger_name(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger_name"] = record.name
    return event


def _to_json(event: EventDict, default: Callable[[object], object] | None = None, **_: object) -> str:
    # Every value has some form: a log line is never the reason that a request fails.
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # lone surrogates or integers beyond 64 bits
        return orjson.dumps({k: repr(v) for k, v in event.items()}).decode()


class _StdoutLogger:
    """Writes lines to whatever `sys.stdout` is at that moment (it may be replaced while the process lives)."""

    def msg(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    debug = info = warning = error = critical = exception = log = msg


class _StdoutHandler(logging.StreamHandler[TextIO]):
    """The standard library's handler with the same late look at `sys.stdout`."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout
