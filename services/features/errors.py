"""Errors of the features worker.

FeaturesError
├── Unusable     an entry that cannot become a row
└── Abandoned    a write that the end of the process cut short; another worker completes it
"""

from __future__ import annotations

from cascade.errors import CascadeError


class FeaturesError(CascadeError):
    """Base of the area."""


class Unusable(FeaturesError):
    """An entry that cannot become a row; says why."""


class Abandoned(FeaturesError):
    """A write that the end of the process cut short."""
