"""Errors of the judge.

CanaryError
├── NoEvidence      neither gateway nor Prometheus told what the tracks did
└── JudgeRuns       another judge watches this canary
"""

from __future__ import annotations

from cascade.errors import CascadeError


class CanaryError(CascadeError):
    """Base of the area."""


class NoEvidence(CanaryError):
    """Neither gateway nor Prometheus told what the tracks did."""


class JudgeRuns(CanaryError):
    """Another judge watches this canary."""
