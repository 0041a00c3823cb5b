"""What the gateway does now, once a second: rates, quantiles of each stage, what is in hand, what waits in the stream.

Read from the gateway's own metrics: each look is a snapshot, and what is told is the difference to one some seconds
before. Nothing is kept while nobody looks, and a request pays nothing for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry

from cascade.errors import CascadeError
from cascade.online.click_through import Clicked
from cascade.online.stream_lag import Lag
from cascade.serving.server_events import ServerEvent
from services.gateway.telemetry import STAGES

T = TypeVar("T")

WINDOW_S = 10.0
_TRACKS_EVERY_S = 5.0
_LISTS = "/v1/recommendations"
_TIMED = (*STAGES, "total")

Labels = tuple[tuple[str, str], ...]
Snapshot = Mapping[tuple[str, Labels], float]
"""(sample name, sorted labels) → value."""


@dataclass(frozen=True)
class Outside:
    """What is asked of Redis. Each raises CascadeError."""

    lag: Callable[[], Awaitable[Lag]]
    tracks: Callable[[], Awaitable[Mapping[str, Clicked]]]


class Live:
    """One viewer's view. clock: monotonic seconds"""

    def __init__(
        self, registry: CollectorRegistry, outside: Outside, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._outside = outside
        self._clock = clock
        self._taken: deque[tuple[float, Snapshot]] = deque()
        self._tracks: Mapping[str, Clicked] | None = None
        self._tracks_at = -_TRACKS_EVERY_S

    async def poll(self) -> list[ServerEvent]:
        """A sample; the first one only begins."""
        now = self._clock()
        self._taken.append((now, snapshot(self._registry)))
        while len(self._taken) > 2 and now - self._taken[1][0] >= WINDOW_S:
            self._taken.popleft()
        lag = await _unless_down(self._outside.lag)
        if now - self._tracks_at >= _TRACKS_EVERY_S:
            self._tracks, self._tracks_at = await _unless_down(self._outside.tracks), now
        if len(self._taken) < 2:
            return []
        (then, before), (_, after) = self._taken[0], self._taken[-1]
        data = {
            **figures(before, after, now - then),
            "stream": None if lag is None else asdict(lag),
            "tracks": None if self._tracks is None else {name: asdict(one) for name, one in self._tracks.items()},
        }
        return [ServerEvent("sample", data)]


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """Every sample of the gateway's own metrics."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        if family.name.startswith("cascade_")
        for sample in family.samples
    }


def figures(before: Snapshot, after: Snapshot, seconds: float) -> dict[str, object]:
    """What happened between two snapshots.

    requests_per_s: of recommendations, and of everything; in_hand: lists in hand, on average (their total time over
    the time that passed: Little's law); queue: requests that wait now; degraded: share of lists made without a stage
    """
    lists = _grown(before, after, "cascade_stage_seconds_count", stage="total")
    return {
        "lists_per_s": _grown(before, after, "cascade_requests_total", route=_LISTS) / seconds,
        "requests_per_s": _grown(before, after, "cascade_requests_total") / seconds,
        "in_hand": _grown(before, after, "cascade_stage_seconds_sum", stage="total") / seconds,
        "queue": sum(value for (name, _), value in after.items() if name == "cascade_queue_depth"),
        "refused_per_s": _grown(before, after, "cascade_errors_total", kind="overloaded") / seconds,
        "degraded": {
            stage: _grown(before, after, "cascade_degraded_total", stage=stage) / lists if lists else None
            for stage in STAGES
        },
        "stages": {stage: _quantiles(before, after, stage) for stage in _TIMED},
    }


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """A quantile from cumulative buckets (upper bound, count), linear within one, as Prometheus reckons it.

    Beyond the last finite bound it is that bound; None where nothing was counted.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    wanted, lower, below = share * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == float("inf"):
                return lower
            inside = count - below
            return lower + (bound - lower) * ((wanted - below) / inside if inside else 1.0)
        lower, below = bound, count
    return lower


def _quantiles(before: Snapshot, after: Snapshot, stage: str) -> dict[str, float | None]:
    grown: dict[float, float] = {}
    for (name, labels), value in after.items():
        of = dict(labels)
        if name == "cascade_stage_seconds_bucket" and of["stage"] == stage:
            grown[float(of["le"])] = value - before.get((name, labels), 0.0)
    buckets = sorted(grown.items())
    found = {name: quantile(buckets, share) for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99))}
    return {name: None if value is None else round(1000 * value, 3) for name, value in found.items()}


def _grown(before: Snapshot, after: Snapshot, name: str, **labels: str) -> float:
    """How much a counter grew, over all series with these labels."""
    wanted = set(labels.items())
    return sum(
        value - before.get((one, of), 0.0) for (one, of), value in after.items() if one == name and wanted <= set(of)
    )


async def _unless_down(ask: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await ask()
    except CascadeError:
        return None
