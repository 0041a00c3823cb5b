"""The time that a request has, from its first hop to its last.

There is one deadline. Each hop tells the next one how many milliseconds are left (a moment would need clocks that
agree), and whoever finds it spent gives up: nobody waits for the answer any more. Work behind no request has none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, Token

from cascade.errors import CascadeError

HEADER = "x-deadline-ms"
_HEADER = HEADER.encode()
_LONGEST_DIGITS = 7

_moment: ContextVar[float | None] = ContextVar("cascade_deadline", default=None)


class DeadlineSpent(CascadeError):
    """The time of the request in hand is over."""

    def __init__(self) -> None:
        super().__init__("the time of this request is spent; ask again, and give it more")


def moment() -> float | None:
    """When the time is over, in seconds of `time.monotonic`; None without a deadline."""
    return _moment.get()


def left_s() -> float | None:
    """Seconds left, below 0 once it is spent; None without a deadline."""
    at = _moment.get()
    return None if at is None else at - time.monotonic()


def at_most(seconds: float) -> float:
    """So many seconds, or what is left where that is less; never below 0."""
    left = left_s()
    return seconds if left is None else max(0.0, min(seconds, left))


def require() -> None:
    """Raise DeadlineSpent if it is spent."""
    left = left_s()
    if left is not None and left <= 0:
        raise DeadlineSpent


def begin(headers: Iterable[tuple[bytes, bytes]]) -> Token[float | None]:
    """Take over what the caller of a request has left; `end` it with the token.

    headers: names in lower case. What is no number of milliseconds counts as none: it is advice, not a condition
    """
    offered = next((value for name, value in headers if name == _HEADER), b"")
    known = offered.isdigit() and len(offered) <= _LONGEST_DIGITS
    return _moment.set(time.monotonic() + int(offered) / 1000 if known else None)


def end(token: Token[float | None]) -> None:
    """The request is answered."""
    _moment.reset(token)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block has so many seconds, or what is left where that is less."""
    token = _moment.set(time.monotonic() + at_most(seconds))
    try:
        yield
    finally:
        _moment.reset(token)


@asynccontextmanager
async def kept() -> AsyncIterator[None]:
    """The block ends with the deadline. Raises DeadlineSpent, also before the block where it is spent already."""
    left = left_s()
    if left is None:
        yield
        return
    if left <= 0:
        raise DeadlineSpent
    timeout = asyncio.timeout(left)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if timeout.expired():
            raise DeadlineSpent from None
        raise
