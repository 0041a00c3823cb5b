"""Errors of drift.

DriftError
├── DriftInputError     histograms or columns that cannot be compared
└── ReferenceUnreadable a bundle's reference is no such file, or of a newer format
"""

from __future__ import annotations

from cascade.errors import CascadeError


class DriftError(CascadeError):
    """Base of the area."""


class DriftInputError(DriftError):
    """Histograms or columns that cannot be compared."""


class ReferenceUnreadable(DriftError):
    """A bundle's reference is no such file, or of a newer format."""
