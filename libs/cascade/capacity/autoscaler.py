"""The HorizontalPodAutoscaler's algorithm, as its controller computes it.

From Kubernetes' page "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior) and, where the
page is silent, `pkg/controller/podautoscaler` (`replica_calculator.go`, `horizontal.go`): how pods that are not ready
or have no metric yet dampen a change, how recommendations are stabilised, how policies bound a step. Its known answers
are in tests/libs/capacity/test_autoscaler.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from cascade.capacity.cluster import Rules

SYNC_S = 15.0
"""--horizontal-pod-autoscaler-sync-period"""
TOLERANCE = 0.1
"""--horizontal-pod-autoscaler-tolerance"""


@dataclass(frozen=True)
class Reading:
    """A metric at a moment.

    values: of the pods that count, in the unit of `target`; unready: pods set aside; missing: pods without a value
    full: what a pod without a value is taken to use when that would scale down; None: the target. For processor
        utilisation it is the larger of 100 % of the request and the target
    """

    values: Sequence[float]
    target: float
    unready: int = 0
    missing: int = 0
    full: float | None = None


def desired_replicas(current: int, reading: Reading, tolerance: float = TOLERANCE) -> int | None:
    """What one metric asks for; None where no pod has a value, which leaves the metric out."""
    values = list(reading.values)
    if not values:
        return None
    ratio = sum(values) / len(values) / reading.target
    damped = reading.unready > 0 and ratio > 1
    if not damped and not reading.missing:
        return current if abs(1 - ratio) <= tolerance else _ceil(ratio * len(values))
    if reading.missing:
        full = reading.target if reading.full is None else reading.full
        values += [full if ratio < 1 else 0.0] * reading.missing
    if damped:
        values += [0.0] * reading.unready
    again = sum(values) / len(values) / reading.target
    if abs(1 - again) <= tolerance or (ratio < 1 < again) or (ratio > 1 > again):
        return current
    wanted = _ceil(again * len(values))
    if (again < 1 and wanted > current) or (again > 1 and wanted < current):
        return current
    return wanted


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)  # 3.0000000000000004 pods are three


@dataclass
class Autoscaler:
    """Of one service: remembers recommendations and changes. Times are seconds that only grow."""

    smallest: int
    largest: int
    up: Rules
    down: Rules
    tolerance: float = TOLERANCE
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)
    """(moment, replicas more, or fewer where negative)"""

    def replicas(self, now: float, current: int, readings: Sequence[Reading]) -> int:
        """How many there shall be: the largest that a metric asks for, stabilised, within policies and bounds."""
        asked = [desired_replicas(current, reading, self.tolerance) for reading in readings]
        known = [one for one in asked if one is not None]
        wanted = max(known, default=current)
        if len(known) < len(asked) and wanted < current:
            wanted = current  # a metric that is not there forbids to scale down
        if not self._recommended:
            self._recommended.append((now - 1e-6, current))
        chosen = self._bounded(now, current, self._stabilised(now, current, wanted))
        if chosen != current:
            self._changes.append((now, chosen - current))
        return chosen

    def _stabilised(self, now: float, current: int, wanted: int) -> int:
        """The least of the upward window's recommendations, the most of the downward one's."""
        self._recommended.append((now, wanted))
        longest = max(self.up.stabilisation, self.down.stabilisation)
        while self._recommended[0][0] < now - longest - SYNC_S:
            self._recommended.popleft()
        rise = min([wanted, *(n for at, n in self._recommended if at > now - self.up.stabilisation)])
        fall = max([wanted, *(n for at, n in self._recommended if at > now - self.down.stabilisation)])
        return min(max(current, rise), fall)

    def _bounded(self, now: float, current: int, wanted: int) -> int:
        if wanted > current:
            limit = max(current, self._limit(now, current, self.up, 1))
            return min(wanted, limit, self.largest)
        if wanted < current:
            limit = min(current, self._limit(now, current, self.down, -1))
            return max(wanted, limit, self.smallest)
        return min(max(wanted, self.smallest), self.largest)

    def _limit(self, now: float, current: int, rules: Rules, way: int) -> int:
        """As far as the policies let the replicas go from where they were when each policy's period began."""
        if rules.select == "Disabled":
            return current
        reached = []
        for policy in rules.policies:
            start = current - sum(change for at, change in self._changes if at > now - policy.period)
            if policy.type == "Pods":
                reached.append(start + way * policy.value)
            elif way > 0:
                reached.append(_ceil(start * (1 + policy.value / 100)))
            else:
                reached.append(math.floor(start * (1 - policy.value / 100) + 1e-9))
        farthest = (rules.select == "Max") == (way > 0)
        return max(reached) if farthest else min(reached)
