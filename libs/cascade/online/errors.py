"""Errors of what lives in Redis.

OnlineError
├── RedisNotFound           no URL, no server on the PATH, no bundled one
├── RedisStartFailed        a server was found and did not come up
├── OnlineStoreDown         Redis did not answer
├── ForgottenUser           nothing is recorded of this user any more
├── FeatureStoreNotReady    Feast has no registry yet
└── FeatureValueUnreadable  Feast's online store holds something else than a feature's value
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


class ForgottenUser(OnlineError):
    """Nothing is recorded of this user any more."""

    def __init__(self) -> None:
        super().__init__("the user of this id was forgotten; nothing of it is recorded")


class FeatureStoreNotReady(OnlineError):
    """Feast's registry is missing or cannot be read."""


class FeatureValueUnreadable(OnlineError):
    """Feast's online store holds something else than a string, a number or null."""

    def __init__(self, stored: bytes) -> None:
        super().__init__(
            f"Feast's online store holds {stored[:40].hex()}, which is no string, number or null; features are of "
            "those types (feature_repo/definitions.py)"
        )
