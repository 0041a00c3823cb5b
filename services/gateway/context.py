"""Imputation: what a request leaves out, filled in the same way everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from cascade.api.common import Context
from cascade.features.spec import DEVICES

Clock = Callable[[], float]
"""UTC seconds since 1970."""

system_clock: Clock = time.time


def known_device(device_type: str | None) -> str | None:
    """The device if it is one the data contract knows, else None: the models' out-of-vocabulary row."""
    if device_type is None:
        return None
    name = device_type.strip().lower()
    return name if name in DEVICES else None


def imputed_timestamp(timestamp: int | None, clock: Clock) -> int:
    """The time given, or now, in UTC seconds."""
    return int(clock()) if timestamp is None else timestamp


def imputed_context(device_type: str | None, timestamp: int | None, clock: Clock) -> Context:
    """The context of a request with its gaps filled: no time means now, no or an unknown device stays null."""
    return Context(device_type=known_device(device_type), timestamp=imputed_timestamp(timestamp, clock))
