"""Steps on a cluster: a pod each, with a GPU where something is learned."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from cascade.settings import Settings
from orchestration.cluster import learning_steps, pod_of_learning, step_executor, training_steps
from orchestration.graph import all_assets, create_definitions


def test_one_process_unless_told_otherwise(settings: Settings) -> None:
    assert step_executor(settings, []) is dg.in_process_executor


def test_what_trains_and_encodes_learns_and_nothing_else(settings: Settings) -> None:
    steps = learning_steps(all_assets(settings))

    assert {"two_tower", "dlrm", "shop_clip", "text_embeddings", "image_embeddings"} <= set(steps)
    assert not {"catalog", "training_rows", "popularity", "gateway_bundle", "online_features"} & set(steps)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_executor_takes_the_pods(settings: Settings, where: str) -> None:
    executor = step_executor(settings.model_copy(update={"step_pods": where}), all_assets(settings))

    config: Any = executor.config_schema.resolve_config({})
    pods = config.value.get("config", config.value)
    gpus = {step for step, pod in pods["per_step_k8s_config"].items() if "nvidia.com/gpu" in str(pod)}
    assert gpus == (set(learning_steps(all_assets(settings))) if where == "gpu" else set())
    assert "limits" in pods["step_k8s_config"]["container_config"]["resources"]


@pytest.mark.parametrize(("wanted", "gpus"), [(1, "1"), (4, "4"), ("auto", "1")])
def test_what_trains_asks_for_a_gpu_a_process(settings: Settings, wanted: object, gpus: str) -> None:
    assets = all_assets(settings)
    executor = step_executor(settings.model_copy(update={"step_pods": "gpu", "training_processes": wanted}), assets)

    config: Any = executor.config_schema.resolve_config({})
    pods = config.value.get("config", config.value)["per_step_k8s_config"]
    asked = {name: pod["container_config"]["resources"]["limits"]["nvidia.com/gpu"] for name, pod in pods.items()}
    assert set(training_steps(assets)) == {"two_tower", "dlrm", "fine_tuned_two_tower", "fine_tuned_dlrm"}
    assert {asked[name] for name in training_steps(assets)} == {gpus}
    assert {asked[name] for name in set(learning_steps(assets)) - set(training_steps(assets))} == {"1"}


@pytest.mark.parametrize("processes", [1, 4])
def test_pods_are_ones_that_kubernetes_knows(processes: int) -> None:
    known = UserDefinedDagsterK8sConfig.from_dict(pod_of_learning(gpu=True, processes=processes))

    assert known.container_config["resources"]["limits"]["nvidia.com/gpu"] == str(processes)
    assert known.pod_spec_config["tolerations"][0]["key"] == "nvidia.com/gpu"
    mounts = {mount["name"] for mount in known.container_config.get("volume_mounts", [])}
    assert mounts == {volume["name"] for volume in known.pod_spec_config.get("volumes", [])}
    assert bool(mounts) == (processes > 1)


def test_a_process_more_is_memory_more() -> None:
    one, three = (
        pod_of_learning(gpu=False, processes=count)["container_config"]["resources"]["requests"] for count in (1, 3)
    )
    assert (one, three) == ({"cpu": "2", "memory": "8Gi"}, {"cpu": "6", "memory": "24Gi"})


def test_automation_starts_on_where_it_is_asked_for(settings: Settings) -> None:
    definitions = create_definitions(settings.model_copy(update={"automation": True}))

    for name in ("every_night", "every_sunday", "every_hour"):
        assert definitions.resolve_schedule_def(name).default_status == dg.DefaultScheduleStatus.RUNNING
    assert definitions.resolve_sensor_def("catalog_gained_items").default_status == dg.DefaultSensorStatus.RUNNING
    # the sensor would ask for the same days as the schedule
    assert definitions.resolve_sensor_def("new_day").default_status == dg.DefaultSensorStatus.STOPPED
