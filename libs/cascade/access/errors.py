"""Errors of access.

AccessError
├── KeyFileUnreadable  the file of keys is missing or is none
└── UnknownKey         no key has this id
"""

from __future__ import annotations

from cascade.errors import CascadeError


class AccessError(CascadeError):
    """Base of the area."""


class KeyFileUnreadable(AccessError):
    """The file of API keys is missing, or is no such file."""


class UnknownKey(AccessError):
    """No key has this id."""
