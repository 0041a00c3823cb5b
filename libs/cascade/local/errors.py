"""Errors of the local run.

LocalError
├── AlreadyRunning   another supervisor holds the state folder
├── NotRunning       there is no supervisor to talk to
├── UnknownPart      no part of that name
├── PortTaken        something else listens where a part should
├── BuildFailed      the build ended with an error
├── PartFailed       a part did not come up
└── StopFailed       processes outlived the stop
"""

from __future__ import annotations

from cascade.errors import CascadeError


class LocalError(CascadeError):
    """Base of the area."""


class AlreadyRunning(LocalError):
    """Another supervisor holds the state folder."""


class NotRunning(LocalError):
    """There is no supervisor to talk to."""


class UnknownPart(LocalError):
    """No part of that name."""


class PortTaken(LocalError):
    """Something else listens where a part should."""


class BuildFailed(LocalError):
    """The build ended with an error."""


class PartFailed(LocalError):
    """A part did not come up."""


class StopFailed(LocalError):
    """Processes outlived the stop."""
