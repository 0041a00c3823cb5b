"""Errors of the model store.

StoreError
├── BundleNotFound      no such version or alias
├── InvalidName         a service, version or alias that could leave its folder
├── NothingBefore       there is no version to roll back to
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


class BundleRefused(StoreError):
    """The bundle exists and must not be served."""


class BundleCorrupt(BundleRefused):
    """A file is missing, added or altered."""


class BundleTooNew(BundleRefused):
    """The bundle was written by a newer format than this code reads."""


class LineageMismatch(BundleRefused):
    """The bundle's parts were not trained together."""
