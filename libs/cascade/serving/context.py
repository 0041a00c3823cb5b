"""Which service and which request the running task works for.

Context variables, so that several apps in one process keep apart and a log line anywhere below finds them.
"""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("cascade_request_id", default=None)
api_key: ContextVar[str | None] = ContextVar("cascade_api_key", default=None)
"""Id of the key that the request was let in with; no secret."""
service: ContextVar[str | None] = ContextVar("cascade_service", default=None)


def current_request_id() -> str | None:
    """Id of the request being answered; None outside one. Hops pass it on in REQUEST_ID_HEADER."""
    return request_id.get()
