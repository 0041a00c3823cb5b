"""Errors of serving.

ServingError
├── Overloaded     more work than the bounds admit: try again after `retry_after_s`
│   ├── QueueFull    the queue in front of a model or a store is full
│   └── RateLimited  the caller's key has made its requests
├── Unavailable    cannot answer now: try again after `retry_after_s`
│   ├── NotReady   no bundle is loaded yet
│   └── Closed     the service is shutting down
├── NotAuthorised  the caller may not ask this
│   ├── NoKey      it gave no key, or none that is known
│   └── NoScope    its key is for other things
├── UnknownItem    the item asked about is not in the bundle
├── ModelFault     a model returned something that is not a number
└── NoTracing      traces are wanted, and what sends them is not installed
"""

from __future__ import annotations

from cascade.errors import CascadeError


class ServingError(CascadeError):
    """Base of the area."""


class Overloaded(ServingError):
    """More work than the bounds admit."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Overloaded):
    """The queue in front of a model or a store is full."""


class RateLimited(Overloaded):
    """The caller's key has made its requests for now."""


class NotAuthorised(ServingError):
    """The caller may not ask this."""


class NoKey(NotAuthorised):
    """The caller gave no key, or none that is known."""


class NoScope(NotAuthorised):
    """The caller's key is for other things."""


class Unavailable(ServingError):
    """Cannot answer now."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(Unavailable):
    """No bundle is loaded yet."""


class Closed(Unavailable):
    """The service is shutting down."""


class UnknownItem(ServingError):
    """The item asked about is not in the bundle that serves."""


class ModelFault(ServingError):
    """A model returned something that is not a number."""


class NoTracing(ServingError):
    """Traces are wanted, and what sends them is not installed."""
