"""What came back: the message, or the error it tells."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar, cast

import httpx
from pydantic import BaseModel, ValidationError

from cascade.api.headers import REQUEST_ID_HEADER
from cascade.api.problems import PROBLEM_TYPE, ProblemBody
from cascade.client.errors import (
    ApiError,
    Conflict,
    Garbled,
    GatewayFault,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Overloaded,
    Unavailable,
)
from cascade.client.operations import Operation

T = TypeVar("T")

_ERRORS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    503: Unavailable,
}
_SHOWN = 200


def understood(operation: Operation[T], response: httpx.Response) -> T:
    """The message of a whole response. Raises ApiError, Garbled.

    Fields that this release does not know are left out: a gateway may be newer than its clients.
    """
    refused(operation, response)
    if not issubclass(operation.answer, BaseModel):
        return cast(T, response.text)
    try:
        return cast(T, operation.answer.model_validate_json(response.content, extra="ignore"))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise Garbled(
            f"the answer to {operation.method} {operation.path} is no {operation.answer.__name__}: "
            f"{place + ': ' if place else ''}{fault['msg']}; is a gateway at {response.url.host}:{response.url.port}?"
        ) from error


def refused(operation: Operation[T], response: httpx.Response) -> None:
    """Raise what a response other than the operation's own tells: ApiError, Garbled. Its body must have been read."""
    if response.status_code == operation.status:
        return
    if not response.is_error:
        raise Garbled(
            f"{operation.method} {operation.path} was answered {response.status_code} where {operation.status} is the "
            "answer; give the gateway's own address, not one that redirects"
        )
    problem = problem_of(response)
    status = response.status_code
    told = {
        "request_id": response.headers.get(REQUEST_ID_HEADER),
        "retry_after_s": retry_after_s(response.headers.get("retry-after")),
    }
    kind = _ERRORS.get(status, GatewayFault if status >= 500 else ApiError)
    if problem is None:
        raise kind(status, _phrase(status), detail=response.text[:_SHOWN].strip() or None, **told)
    raise kind(
        status,
        problem.title,
        kind=problem.type.removeprefix(PROBLEM_TYPE) if problem.type.startswith(PROBLEM_TYPE) else None,
        detail=problem.detail,
        errors=problem.errors or (),
        **told,
    )


def problem_of(response: httpx.Response) -> ProblemBody | None:
    """The problem that a response holds, if it holds one."""
    try:
        return ProblemBody.model_validate_json(response.content)
    except ValidationError:
        return None


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait: a number of them or a date; None where it says neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (_aware(parsedate_to_datetime(header)) - datetime.now(UTC)).total_seconds()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _aware(moment: datetime) -> datetime:
    """HTTP dates are UTC, and may not say so."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
