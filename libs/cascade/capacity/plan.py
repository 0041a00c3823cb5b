"""Replicas, memory, nodes and cost for a rate of requests, a p99, a catalog and a number of users.

The p99 is split: network hops and Redis are taken off, and the rest is divided among the stages in the proportions of
what they take with servers to spare (the 99th percentile of their service times). Each stage then gets the fewest
replicas that keep its part (M/M/c), and that the autoscaler would leave alone (processor, wait, minimum). The stages'
99th percentiles add up to more than the 99th percentile of the sum, so what holds here holds with room.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.capacity.cluster import SERVED, WORKER, Cluster
from cascade.capacity.costs import Costs
from cascade.capacity.demand import REDIS_VISITS, Demand, demand, ranker_on_gpu
from cascade.capacity.errors import Infeasible
from cascade.capacity.memory import GIB, REDIS_RESERVE, WHILE_SWAPPING, Shop, bundle_bytes, redis_bytes
from cascade.capacity.nodes import CacheType, NodeTable, NodeType
from cascade.capacity.packing import Packed, PodSize, hourly, pack
from cascade.capacity.queueing import mean_wait, response_quantile, service_quantile

HOPS = 5
"""round trips on a request's way: three services, Redis twice"""
EVENT_STAGES = ("gateway", "filter")
"""stages that an interaction passes as well; each counts as much as a recommendation there"""
REDIS_NODES = 2
REDIS_UTILISATION = 0.7
MOST = 100_000


@dataclass(frozen=True)
class Target:
    """What is asked for.

    rps: recommendations a second; p99: seconds, from the gateway's door to its answer
    events: interactions for each recommendation
    hop: seconds of a round trip between two pods
    speed: of a core, in cores of the machine of the bench; concurrency: the bench's load that costs are taken of
    gpu: figures of `bench/gpu.py --json`; the ranker then has a GPU a pod
    """

    rps: float
    p99: float
    shop: Shop
    events: float = 0.1
    hop: float = 0.0005
    speed: float = 1.0
    concurrency: int = 16
    spot: bool = False
    gpu: Path | None = None


@dataclass(frozen=True)
class Stage:
    """A part of the way. service: seconds; rate: visits a second; visits: of one request"""

    name: str
    service: float
    rate: float
    visits: int = 1


@dataclass(frozen=True)
class StagePlan:
    """What a stage gets. Seconds; because: which need decided the number of replicas"""

    name: str
    replicas: int
    utilisation: float
    service: float
    budget: float
    p99: float
    mean_wait: float
    because: str


@dataclass(frozen=True)
class PodPlan:
    """Pods of a service. parts: GiB of one bundle; memory_gib asked for: what k8s/base asks for, and two bundles"""

    service: str
    replicas: int
    cpu: float
    memory_gib: float
    gpu_memory_gib: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """All of it. Dollars an hour, and for a million recommendations."""

    target: Target
    demand: Demand
    stages: tuple[StagePlan, ...]
    pods: tuple[PodPlan, ...]
    nodes: tuple[Packed, ...]
    redis_gib: Mapping[str, float]
    cache: CacheType
    hops: float
    notes: tuple[str, ...]
    costs_from: str
    prices_from: str

    @property
    def p99(self) -> float:
        """Seconds: hops, and the sum of the stages' 99th percentiles."""
        return self.hops + sum(stage.p99 for stage in self.stages)

    @property
    def redis_hourly(self) -> float:
        """Dollars."""
        return REDIS_NODES * self.cache.on_demand

    def hourly(self, spot: bool) -> float:
        """Dollars, Redis included."""
        return hourly(self.nodes, spot) + self.redis_hourly

    def per_million(self, spot: bool) -> float:
        """Dollars for a million recommendations, at this rate all the time."""
        return self.hourly(spot) / (self.target.rps * 3600) * 1e6

    def replicas(self) -> dict[str, int]:
        """By service."""
        return {pod.service: pod.replicas for pod in self.pods}

    def to_dict(self) -> dict[str, Any]:
        """For JSON: seconds, GiB, dollars."""
        target = asdict(self.target)
        target["gpu"] = None if self.target.gpu is None else str(self.target.gpu)
        return {
            "target": target,
            "costs": self.costs_from,
            "prices": self.prices_from,
            "index": {
                "structure": self.demand.structure,
                "search_s": self.demand.search,
                "measured": self.demand.measured,
            },
            "ranker_precomputed": self.demand.packed,
            "p99_s": self.p99,
            "hops_s": self.hops,
            "stages": [asdict(stage) for stage in self.stages],
            "pods": [{**asdict(pod), "parts": dict(pod.parts)} for pod in self.pods],
            "redis": {
                "gib": sum(self.redis_gib.values()),
                "parts": dict(self.redis_gib),
                "node": self.cache.name,
                "nodes": REDIS_NODES,
                "hourly": self.redis_hourly,
            },
            "nodes": [
                {"name": name, "count": count, "on_demand": kind.on_demand, "spot": kind.spot}
                for (name, kind), count in counted(self.nodes).items()
            ],
            "hourly": {"on_demand": self.hourly(False), "spot": self.hourly(True)},
            "per_million": {"on_demand": self.per_million(False), "spot": self.per_million(True)},
            "notes": list(self.notes),
        }


def counted(nodes: Sequence[Packed]) -> Counter[tuple[str, NodeType]]:
    """Name and kind of node → how many."""
    return Counter((node.kind.name, node.kind) for node in sorted(nodes, key=lambda one: one.kind.name))


def make_plan(target: Target, costs: Costs, table: NodeTable, cluster: Cluster) -> Plan:
    """The cheaper of a ranker with its items precomputed and one without. Raises Infeasible, CapacityFileError."""
    plans: list[Plan] = []
    refused: list[Infeasible] = []
    for packed in (True, False) if target.gpu is None else (True,):
        try:
            plans.append(_plan(target, costs, table, cluster, packed=packed))
        except Infeasible as error:
            refused.append(error)
    if not plans:
        raise refused[0]
    return min(plans, key=lambda plan: plan.hourly(target.spot))


def stages_of(target: Target, need: Demand) -> tuple[Stage, ...]:
    """What a request passes, Redis last. An interaction counts as a recommendation where it passes."""

    def rate(name: str) -> float:
        return target.rps * (1 + target.events * (name in EVENT_STAGES))

    served = [Stage(name, getattr(need, name), rate(name)) for name in SERVED]
    return (*served, Stage("redis", need.redis, REDIS_VISITS * rate("filter"), REDIS_VISITS))


def _plan(target: Target, costs: Costs, table: NodeTable, cluster: Cluster, *, packed: bool) -> Plan:
    need = demand(costs, target.shop.items, concurrency=target.concurrency, packed=packed, speed=target.speed)
    if target.gpu is not None:
        fast = ranker_on_gpu(costs, target.shop.items, target.gpu, concurrency=target.concurrency, speed=target.speed)
        need = Demand(**{**asdict(need), "ranker": fast})
    stages = stages_of(target, need)
    hops = HOPS * target.hop
    planned = tuple(_replicas(stages, target.p99 - hops, target, cluster))
    events = target.rps * target.events
    workers = max(
        cluster.services[WORKER].replicas[0], math.ceil(events * need.event / cluster.services[WORKER].cpu_target)
    )
    pods = _pods(
        {stage.name: stage.replicas for stage in planned[:-1]} | {WORKER: workers}, target, costs, cluster, packed
    )
    sizes = [
        PodSize(pod.service, pod.cpu, pod.memory_gib, pod.gpu_memory_gib) for pod in pods for _ in range(pod.replicas)
    ]
    nodes = tuple(pack(table, sizes, spot=target.spot))
    redis = {part: held / GIB for part, held in redis_bytes(costs, target.shop).items()}
    asked = REDIS_RESERVE * sum(redis.values())
    cache = next((one for one in table.caches if one.memory_gib >= asked), None)
    if cache is None:
        largest = table.caches[-1]
        raise Infeasible(
            f"redis cannot be held: {asked:.0f} GiB with reserve ({_told(redis)}), and the largest of {table.source}, "
            f"{largest.name}, has {largest.memory_gib:.0f}. Give fewer users or a smaller share of active ones"
        )
    return Plan(
        target, need, planned, pods, nodes, redis, cache, hops,
        tuple(_notes(target, need, pods, nodes, cluster)), costs.source,
        f"{table.source}, as of {table.as_of}: {table.note}",
    )  # fmt: skip


def _replicas(stages: Sequence[Stage], budget: float, target: Target, cluster: Cluster) -> list[StagePlan]:
    """The budget split, and the fewest replicas that keep each part."""
    least = {stage.name: stage.visits * service_quantile(stage.service) for stage in stages}
    total = sum(least.values())
    told = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in least.items())
    if total >= budget:
        worst = max(least, key=lambda name: least[name])
        raise Infeasible(
            f"a p99 of {1000 * target.p99:g} ms cannot be held by any number of replicas: hops take "
            f"{1000 * (target.p99 - budget):.1f} ms, and the stages at least {1000 * total:.1f} ms ({told}). {worst} "
            f"takes most. A p99 above {1000 * (target.p99 - budget + total):.0f} ms can be held; faster cores "
            "(--speed) hold a lower one"
        )
    redis = stages[-1]
    load = redis.rate * redis.service
    if load > REDIS_UTILISATION:
        raise Infeasible(
            f"redis cannot be held: {redis.rate:,.0f} commands/s keep its one thread busy {load:.0%} of the time, and "
            f"{REDIS_UTILISATION:.0%} is what leaves room. Up to {target.rps * REDIS_UTILISATION / load:,.0f} "
            "requests/s can be held; beyond that Redis has to be divided by users, which Cascade does not do"
        )
    taken = redis.visits * response_quantile(redis.rate, redis.service, 1)
    rest = budget - taken
    others = total - least["redis"]
    if others >= rest:
        raise Infeasible(
            f"a p99 of {1000 * target.p99:g} ms cannot be held: redis takes {1000 * taken:.1f} ms of it at "
            f"{redis.rate:,.0f} commands/s, and the stages at least {1000 * others:.1f} ms ({told})"
        )
    planned = []
    for stage in stages[:-1]:
        part = least[stage.name] / others * rest
        replicas, because = _fewest(stage, part, cluster)
        planned.append(_stage(stage, replicas, part, because))
    return [*planned, _stage(redis, 1, taken, "one thread")]


def _stage(stage: Stage, replicas: int, budget: float, because: str) -> StagePlan:
    return StagePlan(
        stage.name, replicas, stage.rate * stage.service / replicas, stage.service, budget,
        stage.visits * response_quantile(stage.rate, stage.service, replicas),
        mean_wait(stage.rate, stage.service, replicas), because,
    )  # fmt: skip


def _fewest(stage: Stage, budget: float, cluster: Cluster) -> tuple[int, str]:
    """The smallest number of replicas that keeps every need, and the need that asks for most."""
    pods = cluster.services[stage.name]
    load = stage.rate * stage.service
    needs = {
        "minimum": pods.replicas[0],
        "processor": math.ceil(load / (pods.cpu_target * min(pods.cpu, 1.0)) - 1e-9),
        "p99": _first(load, lambda count: response_quantile(stage.rate, stage.service, count) <= budget),
    }
    if pods.metric.startswith("cascade_queue_wait"):
        needs["wait"] = _first(load, lambda count: mean_wait(stage.rate, stage.service, count) <= pods.target)
    because = max(needs, key=lambda name: needs[name])
    return needs[because], because


def _first(load: float, holds: Callable[[int], bool]) -> int:
    """The smallest number of servers that hold: doubled until they do, then halved towards it."""
    low, high = math.floor(load), max(1, math.floor(load) + 1)
    while not holds(high):
        low, high = high, 2 * high
        if high > MOST:
            raise Infeasible(f"{load:.0f} cores of work need more than {MOST:,} replicas")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _pods(
    replicas: Mapping[str, int], target: Target, costs: Costs, cluster: Cluster, packed: bool
) -> tuple[PodPlan, ...]:
    found = []
    bundles = bundle_bytes(costs, target.shop, packed=packed)
    for service, count in replicas.items():
        asked = cluster.services[service]
        parts = {part: held / GIB for part, held in bundles[service].items()}
        gpu = 0.0
        if service == "ranker" and target.gpu is not None:
            on_gpu = parts.pop("precomputed items") + parts["user table"]
            gpu = WHILE_SWAPPING * on_gpu
        memory = asked.memory_mib / 1024 + WHILE_SWAPPING * sum(parts.values())
        found.append(PodPlan(service, count, asked.cpu, memory, gpu, parts))
    return tuple(found)


def _told(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {gib:.0f}" for name, gib in parts.items())


def _notes(
    target: Target, need: Demand, pods: Sequence[PodPlan], nodes: Sequence[Packed], cluster: Cluster
) -> list[str]:
    notes = []
    if not need.measured:
        notes.append(
            "no index of this size was measured: its search time goes on as between the two largest that were "
            "(docs/capacity.md)"
        )
    for pod in pods:
        most = cluster.services[pod.service].replicas[1]
        if pod.replicas > most:
            notes.append(f"{pod.service}: {pod.replicas} replicas, and the autoscaler's maximum is {most}: raise it")
        asked = cluster.services[pod.service].memory_mib / 1024
        if pod.memory_gib > 2 * asked:
            largest = max(pod.parts, key=lambda part: pod.parts[part])
            notes.append(
                f"{pod.service}: {pod.memory_gib:.0f} GiB a pod, k8s/base asks for {asked:g}: set it in the overlay; "
                f"most of it is {largest}"
            )
    ranker = next(pod for pod in pods if pod.service == "ranker")
    packed_mib = 1024 * ranker.parts.get("precomputed items", 0.0)
    if packed_mib > 4096:
        notes.append(f"ranker: set CASCADE_RANKER_PRECOMPUTE_MAX_MB to {math.ceil(packed_mib)} at least")
    if target.gpu is None and "precomputed items" not in ranker.parts:
        notes.append("ranker: cheaper without precomputed items: set CASCADE_RANKER_PRECOMPUTE_MAX_MB to 0")
    sizes = sorted({int(node.kind.cpu) for node in nodes} - set(cluster.karpenter.cpus))
    if sizes:
        notes.append(
            f"nodes of {', '.join(map(str, sizes))} vCPU are not in Karpenter's pool (k8s/components/karpenter)"
        )
    return notes
