"""What the manifests of `k8s/` say of pods, autoscalers and nodes: `data/cluster.toml`, held to them by a test."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict

SERVED = ("gateway", "retrieval", "filter", "ranker")
"""services that a recommendation passes"""
WORKER = "features"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServicePods(_Frozen):
    """Of one service. cpu, memory_mib: requested by a pod; the others in cluster.toml's head."""

    replicas: tuple[int, int]
    cpu: float
    memory_mib: int
    metric: str
    target: float
    cpu_target: float
    queue_bound: int = 0
    timeout: float = 0.0


class Policy(_Frozen):
    """So many pods, or so many percent of them, in so many seconds."""

    type: Literal["Percent", "Pods"]
    value: int
    period: int


class Rules(_Frozen):
    """Of one direction. stabilisation: seconds of recommendations that are looked back upon"""

    stabilisation: int
    select: Literal["Max", "Min", "Disabled"]
    policies: tuple[Policy, ...]


class Karpenter(_Frozen):
    """consolidate_after: seconds without a pod coming or going; cpus: sizes of node that the pool allows"""

    consolidate_after: float
    disrupted_share: float
    cpus: tuple[int, ...]


class Cluster(_Frozen):
    """All of it."""

    services: dict[str, ServicePods]
    scale_up: Rules
    scale_down: Rules
    karpenter: Karpenter

    @classmethod
    def load(cls) -> Cluster:
        """The packaged one."""
        text = resources.files("cascade.capacity").joinpath("data/cluster.toml").read_text()
        return cls.model_validate(tomllib.loads(text))
