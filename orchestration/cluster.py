"""Where steps run: in one process, or on Kubernetes each in a pod of its own with the resources that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from cascade.settings import Settings

LEARNS = "torch"
"""Kind of the assets that train or encode; the others read, join and write."""

_LIGHT = {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}}
_LEARNING = {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "16Gi"}}
_GPU = {"nvidia.com/gpu": "1"}
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

    learning = pod_of_learning(gpu=settings.step_pods == "gpu")
    return k8s_job_executor.configured(
        {
            "step_k8s_config": {"container_config": {"resources": _LIGHT}},
            "per_step_k8s_config": dict.fromkeys(learning_steps(assets), learning),
        },
        name="step_pods",
    )


def learning_steps(assets: Iterable[dg.AssetsDefinition]) -> list[str]:
    """Names of the steps whose assets train or encode."""
    return sorted(asset.op.name for asset in assets if any(LEARNS in spec.kinds for spec in asset.specs))


def pod_of_learning(*, gpu: bool) -> dict[str, Any]:
    """Configuration of a pod that trains or encodes."""
    if not gpu:
        return {"container_config": {"resources": _LEARNING}}
    resources = {bound: values | _GPU for bound, values in _LEARNING.items()}
    return {"container_config": {"resources": resources}, "pod_spec_config": _GPU_NODES}
