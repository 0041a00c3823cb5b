"""What a service answers instead of its own response: a problem (RFC 9457)."""

from __future__ import annotations

from pydantic import BaseModel

MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE = "urn:cascade:problem:"
"""What the type of each problem of ours begins with; its kind follows."""


class ProblemBody(BaseModel):
    """A problem in a response. Members beside these may come: the standard lets anyone on the way add some.

    errors: fields at fault, each with what arrived where that is short and plain
    """

    class FieldFault(BaseModel):
        field: str
        message: str
        value: str | int | float | bool | None = None

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str
    request_id: str | None = None
    errors: list[FieldFault] | None = None
