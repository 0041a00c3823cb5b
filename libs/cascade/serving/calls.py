"""Calls from one service to another: what a call is, and how it fails.

CallError
├── CallLate          no whole answer within the time
└── CallFailed        the connection broke before the answer was whole: the call may have had its effect
    └── NotConnected  there was no connection: nothing was sent
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from cascade.serving.errors import ServingError


class CallError(ServingError):
    """A call got no answer."""


class CallLate(CallError):
    """No whole answer within the time."""


class CallFailed(CallError):
    """The connection broke before the answer was whole: the call may have had its effect."""


class NotConnected(CallFailed):
    """There was no connection: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. headers: names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class Caller(Protocol):
    """The way to one service."""

    async def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        repeatable: bool = False,
    ) -> Answer:
        """Send one request and wait for its whole answer, at most `timeout_s` seconds, connecting included.

        path: percent-encoded. Raises CallError; an answer of any status is an answer.
        repeatable: twice has the effect of once, so that a caller with another way to the service may try that too;
            otherwise nothing is sent twice
        """

    async def aclose(self) -> None:
        """Give up connections."""


def service_address(url: str) -> SplitResult:
    """The parts of a service's URL. Raises ValueError for one that is not http://host:port or https://host:port."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a service; give http://host:port")
    return parts
