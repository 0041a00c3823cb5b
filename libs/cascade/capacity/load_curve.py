"""Requests a second over a day: a smooth curve with its peak in the evening, and a flash crowd on top."""

from __future__ import annotations

import math
from dataclasses import dataclass

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class LoadCurve:
    """peak: requests a second of the regular day, at `peak_hour`; trough: its smallest share, twelve hours away

    flash_factor: what the flash crowd multiplies the regular load with, from `flash_hour` on
    flash_rise_s: until it is there; flash_s: it stays; flash_fall_s: then it falls to a share of 1/e in that time
    """

    peak: float
    trough: float = 0.25
    peak_hour: float = 20.0
    flash_factor: float = 2.0
    flash_hour: float = 12.0
    flash_rise_s: float = 60.0
    flash_s: float = 600.0
    flash_fall_s: float = 900.0

    def at(self, seconds: float) -> float:
        """Requests a second, so many seconds after midnight; before it, as on the day before."""
        hour = seconds / HOUR % 24
        wave = (1 + math.cos(2 * math.pi * (hour - self.peak_hour) / 24)) / 2
        return self.peak * (self.trough + (1 - self.trough) * wave) * self._flash(seconds)

    def _flash(self, seconds: float) -> float:
        since = seconds - HOUR * self.flash_hour
        if since < 0:
            return 1.0
        risen = min(1.0, since / self.flash_rise_s) if self.flash_rise_s else 1.0
        over = max(0.0, since - self.flash_rise_s - self.flash_s)
        return 1 + (self.flash_factor - 1) * risen * math.exp(-over / self.flash_fall_s)
