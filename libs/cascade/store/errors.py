"""Errors of the model store.

StoreError
├── BundleNotFound      no such version or alias
├── InvalidName         a service, version or alias that could leave its folder
├── NothingBefore       there is no version to roll back to
├── CanaryRefused       the canary cannot be started, advanced or ended as asked
│   ├── CanaryRuns      there is one already
│   └── NoCanary        none runs
├── CanaryUnreadable    what the store says of a canary is no such thing
├── VersionInUse        an alias names the version that was to be removed
└── BundleRefused       there is a bundle and it must not be served
    ├── BundleCorrupt   a file is missing, added or altered
    ├── BundleTooNew    written by a newer format
    └── LineageMismatch its parts were not trained together
"""

from __future__ import annotations

from cascade.errors import CascadeError


class StoreError(CascadeError):
    """Base of the area."""


class BundleNotFound(StoreError):
    """No such version or alias."""


class InvalidName(StoreError):
    """A name that could leave its folder."""


class NothingBefore(StoreError):
    """There is no version to roll back to."""


class VersionInUse(StoreError):
    """An alias names the version that was to be removed."""


class CanaryRefused(StoreError):
    """The canary cannot be started, advanced or ended as asked."""


class CanaryRuns(CanaryRefused):
    """There is a canary already: one at a time."""


class NoCanary(CanaryRefused):
    """No canary runs that could be advanced or ended."""


class CanaryUnreadable(StoreError):
    """What the store says of a canary is no such thing."""


class BundleRefused(StoreError):
    """The bundle exists and must not be served."""


class BundleCorrupt(BundleRefused):
    """A file is missing, added or altered."""


class BundleTooNew(BundleRefused):
    """The bundle was written by a newer format than this code reads."""


class LineageMismatch(BundleRefused):
    """The bundle's parts were not trained together."""
