"""Pods onto nodes, first fit decreasing, and each node then as small as its pods allow.

Vector bin packing is NP-hard; first fit decreasing is the usual heuristic, and close to what Karpenter does, which
sorts pods by size and simulates their scheduling. Of each type of node as the one that is opened first, the cheapest
outcome is taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cascade.capacity.errors import Infeasible
from cascade.capacity.nodes import NodeTable, NodeType

SPREAD = 0.5
"""Share of a service's pods that one node may hold: its end leaves the other half."""


@dataclass(frozen=True)
class PodSize:
    """What a pod asks for."""

    service: str
    cpu: float
    memory_gib: float
    gpu_memory_gib: float = 0.0

    @property
    def gpu(self) -> bool:
        """Whether it needs a GPU, which it then has for itself."""
        return self.gpu_memory_gib > 0


@dataclass
class Packed:
    """A node and the pods on it."""

    kind: NodeType
    pods: list[PodSize] = field(default_factory=list)


def fits(table: NodeTable, kind: NodeType, pods: Sequence[PodSize], pod: PodSize | None = None) -> bool:
    """Whether a node of this kind holds the pods, and one more."""
    every = [*pods, pod] if pod is not None else list(pods)
    cpu, memory = table.room(kind)
    gpus = [one for one in every if one.gpu]
    return (
        sum(one.cpu for one in every) <= cpu + 1e-9
        and sum(one.memory_gib for one in every) <= memory + 1e-9
        and len(gpus) <= (kind.gpu_memory_gib > 0)
        and all(one.gpu_memory_gib <= kind.gpu_memory_gib for one in gpus)
        and (kind.gpu_memory_gib == 0 or all(one.gpu for one in every))  # GPU nodes are tainted
    )


def pack(table: NodeTable, pods: Sequence[PodSize], *, spot: bool = False) -> list[Packed]:
    """The cheapest nodes found that hold all pods. Raises Infeasible where one pod fits no node of the table."""
    for pod in pods:
        if not any(fits(table, kind, (), pod) for kind in table.nodes):
            raise Infeasible(_too_large(table, pod))
    found: list[Packed] = []
    for group in ([pod for pod in pods if not pod.gpu], [pod for pod in pods if pod.gpu]):
        if group:
            kinds = table.of(gpu=group[0].gpu)
            tried = [_first_fit(table, group, kind, kinds, spot) for kind in kinds]
            best = min(tried, key=lambda nodes: (hourly(nodes, spot), len(nodes)))
            found += best
    return found


def hourly(nodes: Sequence[Packed], spot: bool) -> float:
    """Dollars an hour."""
    return sum(node.kind.price(spot) for node in nodes)


def cheapest(table: NodeTable, pods: Sequence[PodSize], spot: bool) -> NodeType:
    """The cheapest kind of node that holds these pods together. Raises Infeasible where none does."""
    kinds = [kind for kind in table.nodes if fits(table, kind, pods)]
    if not kinds:
        raise Infeasible(_too_large(table, max(pods, key=lambda pod: pod.memory_gib)))
    return min(kinds, key=lambda kind: (kind.price(spot), kind.name))


def _first_fit(
    table: NodeTable, pods: Sequence[PodSize], opened: NodeType, kinds: Sequence[NodeType], spot: bool
) -> list[Packed]:
    cpu, memory = (max(1e-9, room) for room in table.room(opened))
    ordered = sorted(pods, key=lambda pod: (-max(pod.cpu / cpu, pod.memory_gib / memory), pod.service))
    most = {service: max(1, math.ceil(SPREAD * count)) for service, count in Counter(p.service for p in pods).items()}
    nodes: list[Packed] = []
    for pod in ordered:
        for node in nodes:
            mine = sum(one.service == pod.service for one in node.pods)
            if mine < most[pod.service] and fits(table, node.kind, node.pods, pod):
                node.pods.append(pod)
                break
        else:
            kind = opened if fits(table, opened, (), pod) else cheapest(table, [pod], spot)
            nodes.append(Packed(kind, [pod]))
    for node in nodes:
        smaller = [kind for kind in kinds if fits(table, kind, node.pods)]
        node.kind = min(smaller, key=lambda kind: (kind.price(spot), kind.name))
    return nodes


def _too_large(table: NodeTable, pod: PodSize) -> str:
    kinds = table.of(gpu=pod.gpu)
    if not kinds:
        return f"{pod.service} asks for a GPU, and {table.source} has no node with one"
    largest = max(kinds, key=lambda kind: kind.gpu_memory_gib if pod.gpu else kind.memory_gib)
    cpu, memory = table.room(largest)
    gpu = f" and {pod.gpu_memory_gib:.0f} GiB of a GPU" if pod.gpu else ""
    room = f"{memory:.0f} GiB" + (f" and {largest.gpu_memory_gib:.0f} GiB of a GPU" if pod.gpu else "")
    return (
        f"{pod.service} cannot be held: a pod asks for {pod.cpu:g} cores, {pod.memory_gib:.0f} GiB{gpu}, and the "
        f"largest node, {largest.name}, has room for {cpu:g} cores, {room}. Give fewer users or items, or larger nodes "
        "(--nodes)"
    )
