"""What `cascade capacity` takes the manifests and settings to say is what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.capacity.cluster import SERVED, WORKER, Cluster
from cascade.capacity.node_pool import LEAVE_S
from services.filter.settings import FilterSettings
from services.gateway.settings import GatewaySettings
from services.ranker.settings import RankerSettings
from services.retrieval.settings import RetrievalSettings

K8S = Path(__file__).parents[2] / "k8s"
CLUSTER = Cluster.load()
UNITS = {"m": 1e-3, "": 1.0}


def objects(path: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((K8S / path).read_text()) if one]


def amount(text: object) -> float:
    """A quantity of cores, or of a metric."""
    word = str(text)
    return float(word.rstrip("m")) * UNITS["m" if word.endswith("m") else ""]


@pytest.mark.parametrize("service", [*SERVED, WORKER])
def test_autoscaler_and_requests(service: str) -> None:
    mine = CLUSTER.services[service]
    spec = next(one for one in objects(f"base/{service}/scaling.yaml") if one["kind"] == "HorizontalPodAutoscaler")[
        "spec"
    ]
    assert mine.replicas == (spec["minReplicas"], spec["maxReplicas"])
    pods, cpu = spec["metrics"]
    assert mine.metric == pods["pods"]["metric"]["name"]
    assert mine.target == pytest.approx(amount(pods["pods"]["target"]["averageValue"]))
    assert mine.cpu_target == pytest.approx(cpu["resource"]["target"]["averageUtilization"] / 100)
    (container,) = objects(f"base/{service}/rollout.yaml")[0]["spec"]["template"]["spec"]["containers"]
    asked = container["resources"]["requests"]
    assert mine.cpu == pytest.approx(amount(asked["cpu"]))
    units = {"Mi": 1, "Gi": 1024}
    assert mine.memory_mib == int(asked["memory"][:-2]) * units[asked["memory"][-2:]]


def test_behaviour() -> None:
    (patch,) = objects("base/shared/autoscaler.patch.yaml")[0]
    for mine, theirs in (
        (CLUSTER.scale_up, patch["value"]["scaleUp"]),
        (CLUSTER.scale_down, patch["value"]["scaleDown"]),
    ):
        assert (mine.stabilisation, mine.select) == (theirs["stabilizationWindowSeconds"], theirs["selectPolicy"])
        assert [(one.type, one.value, one.period) for one in mine.policies] == [
            (one["type"], one["value"], one["periodSeconds"]) for one in theirs["policies"]
        ]


def test_karpenter() -> None:
    pool = next(one for one in objects("components/karpenter/nodes.yaml") if one["metadata"]["name"] == "cascade-cpu")
    disruption = pool["spec"]["disruption"]
    assert disruption["consolidateAfter"] == f"{CLUSTER.karpenter.consolidate_after / 60:g}m"
    assert disruption["budgets"] == [{"nodes": f"{CLUSTER.karpenter.disrupted_share:.0%}"}]
    sizes = next(
        one
        for one in pool["spec"]["template"]["spec"]["requirements"]
        if one["key"] == "karpenter.k8s.aws/instance-cpu"
    )
    assert [str(one) for one in CLUSTER.karpenter.cpus] == sizes["values"]


def test_bounds_and_timeouts_are_the_settings() -> None:
    gateway = GatewaySettings.model_fields
    assert CLUSTER.services["gateway"].queue_bound == gateway["max_in_flight"].default
    for service, settings in (("retrieval", RetrievalSettings), ("filter", FilterSettings), ("ranker", RankerSettings)):
        mine = CLUSTER.services[service]
        assert mine.queue_bound == settings.model_fields["queue_bound"].default
        assert mine.timeout == pytest.approx(gateway[f"{service}_timeout_ms"].default / 1000)


def test_a_pod_that_leaves_keeps_its_place_for_its_pause_and_its_requests() -> None:
    patch = {one["path"]: one["value"] for one in objects("base/shared/rollout.patch.yaml")[0]}
    pause = patch["/spec/template/spec/containers/0/lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = patch["/spec/template/spec/terminationGracePeriodSeconds"]
    assert pause + GatewaySettings.model_fields["shutdown_timeout_s"].default == LEAVE_S <= longest
