"""The moment of a visit: device, hour and weekday (UTC), and what they do to categories and styles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.data.generator import rng
from cascade.features.spec import DEVICES

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

NO_DEVICE = len(DEVICES)
"""Device code of a visit whose device is not known."""
CONTEXTS = (len(DEVICES) + 1) * 7 * 24
DAY_S = 86_400

HOUR_AMPLITUDE = 1.5
DEVICE_SPREAD = 0.8
WEEKEND_SPREAD = 0.6
WEEKDAY_SPREAD = 0.2


def device_codes(devices: Sequence[str | None]) -> Ints:
    """int32 [B]: 0 mobile, 1 desktop, 2 tablet, 3 for None and for anything else."""
    known = {name: code for code, name in enumerate(DEVICES)}
    return np.array([NO_DEVICE if d is None else known.get(d, NO_DEVICE) for d in devices], np.int32)


def context_rows(device: NDArray[np.integer], timestamp: NDArray[np.integer]) -> Ints:
    """int32 [B]: the row of a context table, by device, weekday (Monday 0) and hour."""
    weekday = (timestamp // DAY_S + 3) % 7  # 1970-01-01 was a Thursday
    hour = timestamp % DAY_S // 3600
    rows: Ints = ((device * 7 + weekday) * 24 + hour).astype(np.int32)
    return rows


def context_utilities(seed: int, purpose: str, columns: int, scale: float) -> Floats:
    """float32 [CONTEXTS, columns]: what each context adds to each category's (or style's) utility.

    Every column has a bias per device, an hour of the day at which it peaks (another on each device), a weekend
    effect and a small effect per weekday. A context without a device has the mean over the devices.
    """
    random = rng.generator(seed, purpose)
    devices = len(DEVICES)
    bias = random.normal(0, DEVICE_SPREAD, (devices, columns))
    peak = random.uniform(0, 24, columns) + random.normal(0, 5, (devices, columns))
    weekend = random.normal(0, WEEKEND_SPREAD, columns)
    weekday = random.normal(0, WEEKDAY_SPREAD, (7, columns))
    hours = np.arange(24)[:, None, None]
    by_hour = HOUR_AMPLITUDE * np.cos(2 * np.pi * (hours + 0.5 - peak) / 24)  # [24, devices, columns]
    by_day = weekday + np.where(np.arange(7)[:, None] >= 5, weekend, -0.4 * weekend)  # [7, columns]
    utility = bias[:, None, None, :] + by_day[None, :, None, :] + by_hour.transpose(1, 0, 2)[:, None]
    utility = np.concatenate([utility, utility.mean(axis=0, keepdims=True)])  # [devices + 1, 7, 24, columns]
    return (scale * utility).reshape(CONTEXTS, columns).astype(np.float32)
