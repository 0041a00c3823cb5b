"""Calls from one service to another: what a call is, and how it fails.

CallError
├── CallLate    no whole answer within the time
└── CallFailed  no connection, or one that broke before the answer was whole
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cascade.serving.errors import ServingError


class CallError(ServingError):
    """A call got no answer."""


class CallLate(CallError):
    """No whole answer within the time."""


class CallFailed(CallError):
    """No connection, or one that broke before the answer was whole."""


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

    async def call(self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Send one request and wait for its whole answer, at most `timeout_s` seconds, connecting included.

        path: percent-encoded. Raises CallError; an answer of any status is an answer. Nothing is sent twice.
        """

    async def aclose(self) -> None:
        """Give up connections."""
