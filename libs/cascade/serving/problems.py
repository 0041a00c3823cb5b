"""Errors as RFC 9457 problem details, and the one table from exception to problem.

No text from inside (tracebacks, paths, addresses) reaches a caller: a 5xx answers what kind of trouble it is, the log
holds the rest under the same request id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from cascade.api.problems import MEDIA_TYPE, PROBLEM_TYPE, ProblemBody
from cascade.deadline import DeadlineSpent
from cascade.online.errors import ForgottenUser, OnlineStoreDown
from cascade.serving import context
from cascade.serving.errors import ModelFault, NoKey, NoScope, Overloaded, RateLimited, Unavailable, UnknownItem
from cascade.serving.responses import JsonResponse

_MAX_ERRORS = 20
_MAX_TEXT = 200


@dataclass(frozen=True)
class FieldError:
    """One field at fault. `value` is what arrived, where it is short and plain."""

    field: str
    message: str
    value: str | int | float | bool | None = None


@dataclass(frozen=True)
class Problem:
    """What went wrong, for a caller. `kind` names it in the type URI and in cascade_errors_total."""

    kind: str
    status: int
    title: str
    detail: str | None = None
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class BodyTooLarge(HTTPException):
    """More bytes arrived than the limit allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(413)
        self.limit = limit


ProblemOf = Callable[[Any], Problem]
"""Makes the problem of an exception of one class."""


def retry_after(seconds: float) -> dict[str, str]:
    """The Retry-After header: whole seconds, at least 1."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def overloaded(error: Overloaded) -> Problem:
    """429: bounds are reached."""
    return Problem(
        "overloaded", 429, "Too many requests", "The service is at its bound; try again later.",
        headers=retry_after(error.retry_after_s),
    )  # fmt: skip


def rate_limited(error: RateLimited) -> Problem:
    """429: a key's own bound is reached."""
    return Problem(
        "rate-limited", 429, "Too many requests", "This key has made its requests for now; try again later.",
        headers=retry_after(error.retry_after_s),
    )  # fmt: skip


def no_key(error: NoKey) -> Problem:
    """401. Whether a key was missing, wrong, revoked or expired is not told."""
    return Problem("unauthorized", 401, "Unauthorized", str(error), headers={"WWW-Authenticate": "Bearer"})


def no_scope(error: NoScope) -> Problem:
    """403."""
    return Problem("forbidden", 403, "Forbidden", str(error))


def unavailable(error: Unavailable) -> Problem:
    """503: not ready, or shutting down."""
    return Problem("unavailable", 503, "Not available now", str(error), headers=retry_after(error.retry_after_s))


def store_down(_error: OnlineStoreDown) -> Problem:
    """503: Redis did not answer this request."""
    return Problem(
        "store-down", 503, "Online store unavailable", "The online store did not answer; try again.",
        headers=retry_after(1),
    )  # fmt: skip


FORGOTTEN_STATUS = 410


def forgotten_user(error: ForgottenUser) -> Problem:
    """410: nothing is recorded of this user, now or later."""
    return Problem("forgotten-user", FORGOTTEN_STATUS, "Forgotten user", str(error))


def deadline_spent(_error: DeadlineSpent) -> Problem:
    """504: the caller gave it less time than it takes."""
    return Problem("deadline-spent", 504, "Out of time", "The time that the caller gave was spent before the answer.")


def unknown_item(error: UnknownItem) -> Problem:
    """404: no such item."""
    return Problem("unknown-item", 404, "Unknown item", str(error))


def model_fault(_error: ModelFault) -> Problem:
    """500: the model failed on this request."""
    return Problem("model-fault", 500, "Model fault", "The model gave no usable answer.")


def internal(_error: Exception) -> Problem:
    """500: a defect."""
    return Problem("internal", 500, "Internal error", "An unexpected error; the log has it under this request id.")


def body_too_large(limit: int) -> Problem:
    """413."""
    return Problem("body-too-large", 413, "Body too large", f"A request body may hold {limit} bytes.")


def too_large(error: BodyTooLarge) -> Problem:
    """413, of a body whose length was not declared."""
    return body_too_large(error.limit)


def http_error(error: HTTPException) -> Problem:
    """A status that routing or a handler raised: unknown route, wrong method, malformed body."""
    try:
        title = HTTPStatus(error.status_code).phrase
    except ValueError:
        title = "Error"
    kind = title.lower().replace(" ", "-")
    return Problem(kind, error.status_code, title, str(error.detail), headers=dict(error.headers or {}))


def validation(error: RequestValidationError) -> Problem:
    """422: every field at fault, with what arrived."""
    faults = error.errors()
    errors = [
        FieldError("body", f"not JSON: {fault['ctx']['error']}")
        if fault["type"] == "json_invalid"
        else FieldError(_field(fault["loc"]), _text(str(fault["msg"])), _value(fault.get("input")))
        for fault in faults[:_MAX_ERRORS]
    ]
    more = f" The first {_MAX_ERRORS} are listed." if len(faults) > _MAX_ERRORS else ""
    return Problem("validation", 422, "Invalid request", f"{len(faults)} field(s) at fault.{more}", errors=errors)


DEFAULT_PROBLEMS: Mapping[type[Exception], ProblemOf] = {
    RequestValidationError: validation,
    HTTPException: http_error,
    BodyTooLarge: too_large,
    Overloaded: overloaded,
    RateLimited: rate_limited,
    NoKey: no_key,
    NoScope: no_scope,
    Unavailable: unavailable,
    DeadlineSpent: deadline_spent,
    OnlineStoreDown: store_down,
    ForgottenUser: forgotten_user,
    UnknownItem: unknown_item,
    ModelFault: model_fault,
}
"""Exception class → problem; the nearest base class decides."""


def _problem_schema() -> dict[str, Any]:
    """In one piece: a reference into itself would lead nowhere once it stands in an OpenAPI document."""
    schema = ProblemBody.model_json_schema()
    fault = schema.pop("$defs")["FieldFault"]
    schema["properties"]["errors"] = {"anyOf": [{"type": "array", "items": fault}, {"type": "null"}], "default": None}
    return schema


_OPENAPI: dict[str, Any] = {
    "description": "Problem details (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": _problem_schema()}},
}
OPENAPI_RESPONSES: dict[int | str, dict[str, Any]] = {422: _OPENAPI, "default": _OPENAPI}
"""What every route may answer besides its own response."""


def problem_response(problem: Problem, scope: Scope) -> JsonResponse:
    """The response, with the request's path and id."""
    body: dict[str, object] = {
        "type": f"{PROBLEM_TYPE}{problem.kind}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail is not None:
        body["detail"] = _text(problem.detail, 2 * _MAX_TEXT)
    body["instance"] = _text(str(scope.get("path", "")))
    request_id = context.request_id.get()
    if request_id is not None:
        body["request_id"] = request_id
    if problem.errors:
        body["errors"] = [_error(error) for error in problem.errors]
    return JsonResponse(body, problem.status, headers=dict(problem.headers), media_type=MEDIA_TYPE)


def _error(error: FieldError) -> dict[str, object]:
    shown: dict[str, object] = {"field": error.field, "message": error.message}
    if error.value is not None:
        shown["value"] = error.value
    return shown


def _field(location: Sequence[str | int]) -> str:
    """("body", "user", "user_id") → "user.user_id": where the value came from is clear from the name."""
    parts = location[1:] if len(location) > 1 and location[0] in ("body", "query", "path", "header") else location
    return _text(".".join(str(part) for part in parts))


def _value(value: object) -> str | int | float | bool | None:
    """The value if it can be shown: short plain values as they are, others not."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value if abs(value) < 2**53 else _text(hex(value))  # beyond 2**53 JSON readers lose digits
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return None


def _text(text: str, limit: int = _MAX_TEXT) -> str:
    """Bounded, and valid UTF-8 even where the request held lone surrogates."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return cut.encode("utf-8", "replace").decode()
