"""Steps on a cluster: a pod each, with a GPU where something is learned."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from cascade.settings import Settings
from orchestration.cluster import learning_steps, pod_of_learning, step_executor
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


def test_pods_are_ones_that_kubernetes_knows() -> None:
    known = UserDefinedDagsterK8sConfig.from_dict(pod_of_learning(gpu=True))

    assert known.container_config["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert known.pod_spec_config["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_automation_starts_on_where_it_is_asked_for(settings: Settings) -> None:
    definitions = create_definitions(settings.model_copy(update={"automation": True}))

    for name in ("every_night", "every_sunday"):
        assert definitions.resolve_schedule_def(name).default_status == dg.DefaultScheduleStatus.RUNNING
    assert definitions.resolve_sensor_def("catalog_gained_items").default_status == dg.DefaultSensorStatus.RUNNING
    # the sensor would ask for the same days as the schedule
    assert definitions.resolve_sensor_def("new_day").default_status == dg.DefaultSensorStatus.STOPPED
