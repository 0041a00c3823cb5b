"""What cannot be planned.

CapacityError
├── CapacityFileError   a file of costs, nodes or autoscalers cannot be read, or lacks something
└── Infeasible          no number of replicas holds the target; the message names the part that cannot
"""

from __future__ import annotations

from cascade.errors import CascadeError


class CapacityError(CascadeError):
    """Base of what this package raises."""


class CapacityFileError(CapacityError):
    """A file of costs, nodes or autoscalers cannot be read, or lacks something."""


class Infeasible(CapacityError):
    """No number of replicas holds the target; the message names the part that cannot."""
