"""Errors of the client.

ClientError
├── InvalidAddress      no gateway can be at what was given
├── InvalidId           an id that the gateway would take for another call
├── NoAnswer            nothing came: no connection, broken off, late
├── Garbled             something came that is no answer of a gateway
└── ApiError            the gateway answered with a problem
    ├── InvalidRequest  400, 413, 422: `errors` names the fields
    ├── NotAllowed      401, 403: the API key is missing, wrong, or lacks the scope
    ├── NotFound        404: no such item, version or service
    ├── Conflict        409: what serves goes on serving
    ├── Overloaded      429: try again after `retry_after_s`
    ├── Unavailable     503: likewise
    └── GatewayFault    any other 5xx
"""

from __future__ import annotations

from collections.abc import Sequence

from cascade.api.problems import ProblemBody
from cascade.errors import CascadeError


class ClientError(CascadeError):
    """Base of the area."""


class InvalidAddress(ClientError, ValueError):
    """No gateway can be at what was given."""


class InvalidId(ClientError, ValueError):
    """An id that the gateway would take for another call."""


class NoAnswer(ClientError):
    """Nothing came. Whether the gateway did what it was asked is not known."""


class Garbled(ClientError):
    """Something came that is no answer of a gateway: another server's page, a broken body."""


class ApiError(ClientError):
    """The gateway answered with a problem.

    status: of the response
    kind: names the problem for programs (`validation`, `unknown-item`, `overloaded`, …); None where the answer is no
        problem of a gateway, as of a load balancer before it
    title, detail: for people
    errors: fields at fault, with what arrived
    request_id: finds the request in the logs
    retry_after_s: seconds after which it says to try again; None where it says nothing
    """

    def __init__(
        self,
        status: int,
        title: str,
        *,
        kind: str | None = None,
        detail: str | None = None,
        errors: Sequence[ProblemBody.FieldFault] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        super().__init__(f"the gateway answered {status}: {self.sentence}")

    @property
    def sentence(self) -> str:
        """What it says, for a person."""
        return " ".join([self.detail or self.title, *(f"{fault.field}: {fault.message}" for fault in self.errors)])


class InvalidRequest(ApiError):
    """400, 413, 422: `errors` names the fields at fault."""


class NotAllowed(ApiError):
    """401, 403: the API key is missing, wrong, or lacks the scope."""


class NotFound(ApiError):
    """404: no such item, version or service."""


class Conflict(ApiError):
    """409: what was asked cannot be; what serves goes on serving."""


class Overloaded(ApiError):
    """429: more than the gateway takes now."""


class Unavailable(ApiError):
    """503: cannot be answered now."""


class GatewayFault(ApiError):
    """Any other 5xx: a defect, or a load balancer that found no gateway (502, 504)."""
