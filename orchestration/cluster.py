"""Where steps run: in one process, or on Kubernetes each in a pod of its own with the resources that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from cascade.settings import Settings

LEARNS = "torch"
"""Kind of the assets that train or encode; the others read, join and write."""

TRAINS = {"cascade/trains": "true"}
"""Tag of the assets that train in as many processes as `training_processes` says; the encoders take one GPU."""

_LIGHT = {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}}
_CPU, _MEMORY_GI = {"requests": 2, "limits": 4}, {"requests": 8, "limits": 16}
"""Of one process that trains or encodes."""
_SHARED_MEMORY: dict[str, dict[str, Any]] = {
    "container_config": {"volume_mounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}]},  # noqa: S108  # nosec B108
    "pod_spec_config": {"volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]},
}
"""NCCL passes gradients between GPUs of a node through /dev/shm, of which a container has 64 MB otherwise."""
_GPU_NODES = {
    "node_selector": {"cascade.nodes": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


def step_executor(settings: Settings, assets: Iterable[dg.AssetsDefinition]) -> dg.ExecutorDefinition:
    """What runs the steps of a job.

    Raw configuration of pods, as the tag `dagster-k8s/config` of an asset would hold it; here in one place, because
    which pods there may be is the cluster's matter.
    """
    if settings.step_pods is None:
        # the steps share loaded libraries, and two cores gain nothing from more processes
        return dg.in_process_executor
    from dagster_k8s import k8s_job_executor

    gpu, assets = settings.step_pods == "gpu", list(assets)
    one, several = pod_of_learning(gpu=gpu), pod_of_learning(gpu=gpu, processes=_processes(settings))
    pods = dict.fromkeys(learning_steps(assets), one) | dict.fromkeys(training_steps(assets), several)
    return k8s_job_executor.configured(
        {
            "step_k8s_config": {"container_config": {"resources": _LIGHT}},
            "per_step_k8s_config": pods,
        },
        name="step_pods",
    )


def learning_steps(assets: Iterable[dg.AssetsDefinition]) -> list[str]:
    """Names of the steps whose assets train or encode."""
    return sorted(asset.op.name for asset in assets if any(LEARNS in spec.kinds for spec in asset.specs))


def training_steps(assets: Iterable[dg.AssetsDefinition]) -> list[str]:
    """Names of the steps, among those, that several processes can train."""
    return sorted(asset.op.name for asset in assets if any(TRAINS.items() <= spec.tags.items() for spec in asset.specs))


def pod_of_learning(*, gpu: bool, processes: int = 1) -> dict[str, Any]:
    """Configuration of a pod that trains or encodes, in so many processes with a GPU each."""
    resources = {
        bound: {"cpu": str(_CPU[bound] * processes), "memory": f"{_MEMORY_GI[bound] * processes}Gi"}
        | ({"nvidia.com/gpu": str(processes)} if gpu else {})
        for bound in _CPU
    }
    shared: dict[str, dict[str, Any]] = _SHARED_MEMORY if gpu and processes > 1 else {}
    return {
        "container_config": {"resources": resources, **shared.get("container_config", {})},
        "pod_spec_config": {**(_GPU_NODES if gpu else {}), **shared.get("pod_spec_config", {})},
    }


def _processes(settings: Settings) -> int:
    """What a pod is asked for: `auto` counts the GPUs that a pod has, so it gets one."""
    return 1 if settings.training_processes == "auto" else settings.training_processes
