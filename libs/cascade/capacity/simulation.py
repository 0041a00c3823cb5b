"""A day of visitors through the services, their autoscalers and Karpenter, in steps of a few seconds (SimPy).

Each service is a queue with a server a ready pod (`sampled_queue.py`), each autoscaler the real algorithm over what
Prometheus and metrics-server would have told it (`autoscaler.py`), nodes come and go as Karpenter has them
(`node_pool.py`). What stands in for what is in docs/capacity.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import simpy
from numpy.typing import NDArray

from cascade.capacity.autoscaler import SYNC_S, Autoscaler, Reading
from cascade.capacity.cluster import SERVED, Cluster, ServicePods
from cascade.capacity.load_curve import DAY, LoadCurve
from cascade.capacity.node_pool import NodePool
from cascade.capacity.nodes import NodeTable
from cascade.capacity.packing import PodSize
from cascade.capacity.plan import Plan, stages_of
from cascade.capacity.sampled_queue import Moment, SampledQueue

Scaling = Literal["wait", "cpu", "both"]
SCALINGS: tuple[Scaling, ...] = ("wait", "cpu", "both")
TOLD: dict[Scaling, str] = {"wait": "queue wait", "cpu": "processor", "both": "both"}

STEP_S = 5.0
MINUTE = 60.0
WARM_UP_S = 1800.0
WINDOW_S = 30.0
"""of the rates that the metrics are means of"""
BEGIN_BUSY = 0.6
"""utilisation that the simulation begins with"""
REDIS_TIMEOUT_S = 0.25

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """pod_start, node_start: seconds until a pod, and a node, is ready; metric_delay: age of the newest metric
    follow: arrivals of each step that are followed one by one
    """

    seed: int = 7
    pod_start: float = 40.0
    node_start: float = 75.0
    metric_delay: float = 15.0
    follow: int = 60
    day_s: float = DAY


@dataclass
class Day:
    """Minute by minute: offered requests/s, p99 of the answers in seconds, shares dropped and degraded, pods that
    answer by service, nodes, dollars an hour (Redis included). scaling: in words; budget: seconds that p99 should keep
    """

    scaling: str
    budget: float
    offered: Floats
    p99: Floats
    dropped: Floats
    degraded: Floats
    replicas: dict[str, Floats]
    nodes: Floats
    hourly: Floats

    @property
    def all_replicas(self) -> Floats:
        """Of all services together."""
        together: Floats = np.sum(list(self.replicas.values()), axis=0)
        return together

    def summary(self) -> dict[str, float]:
        """Of the whole day: shares are of requests; p99_s is the requests' mean of their minute's 99th percentile."""
        weight = self.offered / self.offered.sum()
        answered = weight * (1 - self.dropped)
        return {
            "p99_s": float((answered * np.nan_to_num(self.p99)).sum() / answered.sum()),
            "worst_minute_p99_s": float(np.nanmax(self.p99)),
            "late_minutes": float((self.p99 > self.budget).sum()),
            "dropped": float((weight * self.dropped).sum()),
            "degraded": float((weight * self.degraded).sum()),
            "mean_replicas": float(self.all_replicas.mean()),
            "most_replicas": float(self.all_replicas.max()),
            "mean_nodes": float(self.nodes.mean()),
            "most_nodes": float(self.nodes.max()),
            "cost": float(self.hourly.sum() / 60),
        }


@dataclass(frozen=True)
class _Seen:
    """What a service's metrics say of a step, the mean of its pods."""

    at: float
    wait: float
    cores: float
    in_hand: float


@dataclass
class _Service:
    """A service in the simulation. share: arrivals for each admitted recommendation"""

    name: str
    pods: ServicePods
    size: PodSize
    queue: SampledQueue
    autoscaler: Autoscaler
    share: float
    seen: deque[_Seen] = field(default_factory=lambda: deque(maxlen=60))


@dataclass
class _Minute:
    offered: list[float] = field(default_factory=list)
    latencies: list[Floats] = field(default_factory=list)
    dropped: list[float] = field(default_factory=list)
    degraded: list[float] = field(default_factory=list)


def simulate(
    plan: Plan,
    table: NodeTable,
    cluster: Cluster,
    curve: LoadCurve,
    scaling: Scaling,
    settings: Settings | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Day:
    """A day, from midnight to midnight, after half an hour to settle. The same arguments give the same day.

    plan: whose stages, pods and prices are taken; its numbers of replicas are not
    progress: told the share of the day that is done
    """
    return _Simulation(plan, table, cluster, curve, scaling, settings or Settings(), progress).run()


class _Simulation:
    def __init__(
        self, plan: Plan, table: NodeTable, cluster: Cluster, curve: LoadCurve, scaling: Scaling, settings: Settings,
        progress: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._plan, self._curve, self._scaling, self._settings = plan, curve, scaling, settings
        self._progress = progress
        self._env = simpy.Environment(initial_time=-WARM_UP_S)
        self._pool = NodePool(
            self._env, table, cluster.karpenter, spot=plan.target.spot, pod_start=settings.pod_start,
            node_start=settings.node_start,
        )  # fmt: skip
        *served, redis = stages_of(plan.target, plan.demand)
        streams = np.random.default_rng(settings.seed).spawn(len(SERVED) + 1)
        pods = {pod.service: pod for pod in plan.pods}
        self._services: dict[str, _Service] = {}
        rate = curve.at(-WARM_UP_S)
        sizes: list[PodSize] = []
        for stage, rng in zip(served, streams, strict=False):
            asked, planned = cluster.services[stage.name], pods[stage.name]
            share = stage.rate / plan.target.rps
            size = PodSize(stage.name, planned.cpu, planned.memory_gib, planned.gpu_memory_gib)
            busy = rate * share * stage.service
            count = min(max(asked.replicas[0], math.ceil(busy / BEGIN_BUSY / min(1.0, asked.cpu))), asked.replicas[1])
            queue = SampledQueue(stage.service, count, asked.queue_bound * stage.service, rng)
            autoscaler = Autoscaler(*asked.replicas, cluster.scale_up, cluster.scale_down)
            self._services[stage.name] = _Service(stage.name, asked, size, queue, autoscaler, share)
            sizes += [size] * count
        self._redis = SampledQueue(redis.service, 1, REDIS_TIMEOUT_S, streams[-1])
        self._redis_share = redis.rate / plan.target.rps
        for pod in plan.pods:
            if pod.service not in self._services:
                sizes += [PodSize(pod.service, pod.cpu, pod.memory_gib)] * pod.replicas
        self._pool.begin(sizes)
        self._took = plan.hops + sum(stage.service for stage in served)
        self._minute = _Minute()
        self._rows: list[tuple[float, ...]] = []

    def run(self) -> Day:
        self._env.process(self._steps())
        for service in self._services.values():
            self._env.process(self._scale(service))
        self._env.run(until=self._settings.day_s)
        columns = np.array(self._rows).T
        offered, p99, dropped, degraded, nodes, hourly, *replicas = columns
        return Day(
            TOLD[self._scaling], self._plan.target.p99, offered, p99, dropped, degraded,
            dict(zip(self._services, replicas, strict=True)), nodes, hourly,
        )  # fmt: skip

    def _steps(self) -> Generator[simpy.Event, Any, None]:
        while True:
            self._step()
            yield self._env.timeout(STEP_S)
            now = self._env.now
            if now > 0 and now % MINUTE < STEP_S:
                self._rows.append(self._row())
                self._progress(now / self._settings.day_s)
            if now % MINUTE < STEP_S:
                self._minute = _Minute()

    def _row(self) -> tuple[float, ...]:
        minute = self._minute
        latencies = np.concatenate(minute.latencies)
        latencies = latencies[~np.isnan(latencies)]
        return (
            float(np.mean(minute.offered)),
            float(np.quantile(latencies, 0.99)) if len(latencies) else math.nan,
            float(np.average(minute.dropped, weights=minute.offered)),
            float(np.average(minute.degraded, weights=minute.offered)),
            float(len(self._pool.nodes)),
            self._pool.hourly() + self._plan.redis_hourly,
            *(float(self._pool.ready(name)) for name in self._services),
        )

    def _step(self) -> None:
        """One step of all queues, and what visitors and metrics see of it."""
        rate, follow = self._curve.at(self._env.now), self._settings.follow
        for service in self._services.values():
            service.queue.resize(self._pool.ready(service.name))
        gateway = self._services["gateway"]
        # The gateway refuses beyond its bound in hand: by Little's law, its rate times what a request takes.
        room = gateway.pods.queue_bound * gateway.queue.servers / self._took
        entering = min(rate, room)
        first = gateway.queue.step(entering * gateway.share, STEP_S, follow)
        admitted = entering * (1 - first.refused)
        moments = {"gateway": first}
        for name, service in self._services.items():
            if name != "gateway":
                moments[name] = service.queue.step(admitted * service.share, STEP_S, follow)
        redis = self._redis.step(admitted * self._redis_share, STEP_S, follow)
        latencies, degraded = self._requests(moments, redis)
        answered = ~np.isnan(latencies)
        self._took = float(latencies[answered].mean()) if answered.any() else self._took
        self._minute.offered.append(rate)
        self._minute.latencies.append(latencies)
        self._minute.dropped.append(1 - admitted / rate)
        self._minute.degraded.append(degraded * admitted / rate)
        for name, service in self._services.items():
            offered = (entering if name == "gateway" else admitted) * service.share
            self._note(service, moments[name], offered, entering)

    def _requests(self, moments: dict[str, Moment], redis: Moment) -> tuple[Floats, float]:
        """Seconds that each followed request took, NaN for one refused; share made without a stage."""
        total = moments["gateway"].waits + moments["gateway"].services + self._plan.hops
        without = np.zeros(len(total), np.bool_)
        command = np.nan_to_num(redis.waits, nan=REDIS_TIMEOUT_S) + redis.services
        for name, service in self._services.items():
            if name == "gateway":
                continue
            took = moments[name].waits + moments[name].services
            if name == "filter":
                took = took + command
            late = took > service.pods.timeout
            without |= late | np.isnan(took)
            total = total + np.where(np.isnan(took), 0.0, np.minimum(took, service.pods.timeout))
        total = total + np.roll(command, 1)  # user features: another command of the same moment
        answered = ~np.isnan(total)
        return total, float(without[answered].mean()) if answered.any() else 0.0

    def _note(self, service: _Service, moment: Moment, offered: float, entering: float) -> None:
        pods = max(1, service.queue.servers)
        served = offered * (1 - moment.refused)
        waits = moment.waits[~np.isnan(moment.waits)]
        service.seen.append(
            _Seen(
                self._env.now,
                float(waits.mean()) if len(waits) else service.queue.longest,
                min(1.0, served * service.queue.service / pods),
                entering * self._took / pods,
            )
        )

    def _scale(self, service: _Service) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(SYNC_S)
        while True:
            standing = len(self._pool.standing(service.name))
            readings = self._readings(service)
            if readings:
                self._pool.scale(service.size, service.autoscaler.replicas(self._env.now, standing, readings))
            yield self._env.timeout(SYNC_S)

    def _readings(self, service: _Service) -> list[Reading]:
        """What the autoscaler is told: means over the window that ended `metric_delay` ago."""
        now, newest = self._env.now, self._env.now - self._settings.metric_delay
        window = [one for one in service.seen if newest - WINDOW_S < one.at <= newest]
        if not window:
            return []
        standing = self._pool.standing(service.name)
        with_metrics = sum(pod.ready_at <= newest for pod in standing)
        placed = sum(pod.node is not None and pod.ready_at > newest for pod in standing)
        waiting = len(standing) - with_metrics - placed
        readings = []
        if self._scaling in ("wait", "both"):
            pick = "in_hand" if service.pods.metric == "cascade_requests_in_hand" else "wait"
            value = float(np.mean([getattr(one, pick) for one in window]))
            readings.append(Reading([value] * with_metrics, service.pods.target, waiting, placed))
        if self._scaling in ("cpu", "both"):
            used = float(np.mean([one.cores for one in window])) / service.pods.cpu
            unready = sum(pod.ready_at > now for pod in standing)
            missing = len(standing) - with_metrics - unready
            readings.append(
                Reading(
                    [used] * with_metrics, service.pods.cpu_target, unready, missing, max(1.0, service.pods.cpu_target)
                )
            )
        return readings


def compare(
    plan: Plan,
    table: NodeTable,
    cluster: Cluster,
    curve: LoadCurve,
    scalings: Sequence[Scaling] = SCALINGS,
    settings: Settings | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Day]:
    """The same day, arrivals included, under each way of scaling."""
    days = []
    for place, scaling in enumerate(scalings):
        done = place / len(scalings)
        days.append(
            simulate(
                plan, table, cluster, curve, scaling, settings,
                lambda share, done=done: progress(done + share / len(scalings)),  # type: ignore[misc]
            )
        )  # fmt: skip
    return days
