"""Errors of what lives in Redis.

OnlineError
├── RedisNotFound         no URL, no server on the PATH, no bundled one
├── RedisStartFailed      a server was found and did not come up
├── OnlineStoreDown       Redis did not answer
└── FeatureStoreNotReady  Feast has no registry yet
"""

from __future__ import annotations

from cascade.errors import CascadeError


class OnlineError(CascadeError):
    """Base of the area."""


class RedisNotFound(OnlineError):
    """No Redis-compatible server could be found."""


class RedisStartFailed(OnlineError):
    """A server was found and did not come up."""


class OnlineStoreDown(OnlineError):
    """Redis did not answer this request; the next one tries again."""


class FeatureStoreNotReady(OnlineError):
    """Feast's registry is missing or cannot be read."""
