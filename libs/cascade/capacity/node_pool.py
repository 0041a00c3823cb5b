"""Pods on nodes over time: scheduler, and Karpenter's provisioning and consolidation.

Karpenter as its documentation describes it: pods that no node has room for are gathered for a moment, then the
cheapest nodes that hold them together are started; a node on which no pod came or went for `consolidate_after` is
removed when it is empty, or when its pods fit elsewhere, a share of the nodes at a time. A node that is drained loses
one pod after the other, each back before the next goes (disruption budgets). Replacing a node by a cheaper one is not
simulated.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from cascade.capacity.cluster import Karpenter
from cascade.capacity.nodes import NodeTable, NodeType
from cascade.capacity.packing import PodSize, fits, pack

GATHER_S = 5.0
"""Karpenter's batch: 1 s without a new pod, 10 s at most."""
LOOK_S = 10.0
"""between looks for nodes to consolidate"""
LEAVE_S = 30.0
"""that a pod which ends keeps its place: preStop, and requests in flight"""


@dataclass(eq=False)
class Node:
    """A machine that runs or starts. changed: when a pod last came or went"""

    kind: NodeType
    ready_at: float
    changed: float
    pods: list[Pod] = field(default_factory=list)
    draining: bool = False

    @property
    def sizes(self) -> list[PodSize]:
        """What its pods ask for."""
        return [pod.size for pod in self.pods]


@dataclass(eq=False)
class Pod:
    """node: None while no node has room; ready_at: when it answers, set with the node"""

    size: PodSize
    node: Node | None = None
    ready_at: float = float("inf")
    leaving: bool = False


class NodePool:
    """All nodes and pods. pod_start, node_start: seconds until ready"""

    def __init__(
        self, env: simpy.Environment, table: NodeTable, karpenter: Karpenter, *, spot: bool, pod_start: float,
        node_start: float,
    ) -> None:  # fmt: skip
        self.env = env
        self.nodes: list[Node] = []
        self.pods: dict[str, list[Pod]] = {}
        self._table = table
        self._karpenter = karpenter
        self._spot = spot
        self._pod_start = pod_start
        self._node_start = node_start
        self._gathering = False

    def begin(self, sizes: list[PodSize]) -> None:
        """Pods that are ready now, on the nodes that they need."""
        now = self.env.now
        for packed in pack(self._table, sizes, spot=self._spot):
            node = Node(packed.kind, now, now)
            self.nodes.append(node)
            for size in packed.pods:
                pod = Pod(size)
                self.pods.setdefault(size.service, []).append(pod)
                self._place(pod, node)
                pod.ready_at = now
        self.env.process(self._consolidate())

    def hourly(self) -> float:
        """Dollars an hour of all nodes; they cost from the moment they start."""
        return sum(node.kind.price(self._spot) for node in self.nodes)

    def standing(self, service: str) -> list[Pod]:
        """Pods of a service that do not leave."""
        return [pod for pod in self.pods.get(service, []) if not pod.leaving]

    def ready(self, service: str) -> int:
        """Pods that answer."""
        return sum(pod.ready_at <= self.env.now for pod in self.standing(service))

    def scale(self, size: PodSize, replicas: int) -> None:
        """So many pods of a service from now on."""
        standing = self.standing(size.service)
        for _ in range(replicas - len(standing)):
            self._create(size)
        for pod in self._first_to_go(standing)[: max(0, len(standing) - replicas)]:
            self._remove(pod)

    def _first_to_go(self, pods: list[Pod]) -> list[Pod]:
        """As a ReplicaSet chooses: without a node, not ready, then where most of them are together."""
        now = self.env.now

        def together(pod: Pod) -> int:
            return 0 if pod.node is None else sum(one.size.service == pod.size.service for one in pod.node.pods)

        return sorted(pods, key=lambda pod: (pod.node is not None, pod.ready_at <= now, -together(pod), -pod.ready_at))

    def _create(self, size: PodSize, aside: Node | None = None) -> Pod:
        pod = Pod(size)
        self.pods.setdefault(size.service, []).append(pod)
        node = self._room_for(size, aside)
        if node is not None:
            self._place(pod, node)
        elif not self._gathering:
            self._gathering = True
            self.env.process(self._provision())
        return pod

    def _room_for(self, size: PodSize, aside: Node | None = None) -> Node | None:
        """Among those with room the one with most of it, as the scheduler prefers."""
        open_nodes = [
            node for node in self.nodes
            if not node.draining and node is not aside and fits(self._table, node.kind, node.sizes, size)
        ]  # fmt: skip
        return min(open_nodes, key=lambda node: sum(one.cpu for one in node.sizes) / node.kind.cpu, default=None)

    def _place(self, pod: Pod, node: Node) -> None:
        pod.node = node
        pod.ready_at = max(self.env.now, node.ready_at) + self._pod_start
        node.pods.append(pod)
        node.changed = self.env.now

    def _remove(self, pod: Pod) -> None:
        pod.leaving = True
        self.env.process(self._leave(pod))

    def _leave(self, pod: Pod) -> Generator[simpy.Event, Any, None]:
        if pod.node is not None and pod.ready_at <= self.env.now:
            yield self.env.timeout(LEAVE_S)
        self.pods[pod.size.service].remove(pod)
        if pod.node is not None:
            pod.node.pods.remove(pod)
            pod.node.changed = self.env.now

    def _provision(self) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(GATHER_S)
        self._gathering = False
        waiting = [pod for pods in self.pods.values() for pod in pods if pod.node is None and not pod.leaving]
        for pod in list(waiting):  # room may have come meanwhile
            node = self._room_for(pod.size)
            if node is not None:
                self._place(pod, node)
                waiting.remove(pod)
        if not waiting:
            return
        for packed in pack(self._table, [pod.size for pod in waiting], spot=self._spot):
            node = Node(packed.kind, self.env.now + self._node_start, self.env.now)
            self.nodes.append(node)
            for size in packed.pods:
                pod = next(pod for pod in waiting if pod.size == size)
                waiting.remove(pod)
                self._place(pod, node)

    def _consolidate(self) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(LOOK_S)
            now = self.env.now
            draining = sum(node.draining for node in self.nodes)
            allowed = max(1, int(self._karpenter.disrupted_share * len(self.nodes)))
            for node in sorted(self.nodes, key=lambda one: len(one.pods)):
                if draining >= allowed:
                    break
                quiet = now - max(node.changed, node.ready_at) >= self._karpenter.consolidate_after
                if quiet and not node.draining and self._movable(node):
                    node.draining = True
                    draining += 1
                    self.env.process(self._drain(node))

    def _movable(self, node: Node) -> bool:
        """Whether the other nodes have room for all its pods, and none of them is on its way already."""
        if any(pod.leaving or pod.ready_at > self.env.now for pod in node.pods):
            return False
        taken = {other: list(other.sizes) for other in self.nodes if other is not node and not other.draining}
        for size in node.sizes:
            room = next((other for other in taken if fits(self._table, other.kind, taken[other], size)), None)
            if room is None:
                return False
            taken[room].append(size)
        return True

    def _drain(self, node: Node) -> Generator[simpy.Event, Any, None]:
        for pod in list(node.pods):
            if pod.leaving or pod not in node.pods:
                continue
            self._remove(pod)
            instead = self._create(pod.size, node)
            while instead.ready_at > self.env.now and not instead.leaving:
                yield self.env.timeout(LOOK_S if instead.node is None else max(0.1, instead.ready_at - self.env.now))
        while node.pods:
            yield self.env.timeout(LOOK_S)
        self.nodes.remove(node)
