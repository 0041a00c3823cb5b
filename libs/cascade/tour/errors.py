"""Errors of the tour.

TourError
├── GatewaySilent   the gateway does not answer, or refuses
└── DagsterSilent   Dagster's page does not answer, or refuses
"""

from __future__ import annotations

from cascade.errors import CascadeError


class TourError(CascadeError):
    """Base of the area."""


class GatewaySilent(TourError):
    """The gateway does not answer, or refuses."""


class DagsterSilent(TourError):
    """Dagster's page does not answer, or refuses."""
