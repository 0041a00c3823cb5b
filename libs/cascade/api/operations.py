"""What every service tells those who run it."""

from __future__ import annotations

from typing import Literal

from cascade.api.common import Message


class Health(Message):
    """GET /healthz: the process answers."""

    status: Literal["ok"]


class Readiness(Message):
    """GET /readyz, where the service can do its work; else 503 says what is missing.

    checks: what must hold, by name
    versions: the bundle that serves, by track; null where the service has none
    dependencies: state of what the gateway stands in for when it is down (`ready`, `not ready`, `down`), by name; null
        at the other services, and where finding out took too long
    """

    status: Literal["ready"]
    checks: dict[str, str]
    versions: dict[str, str] | None = None
    dependencies: dict[str, str] | None = None
