"""Our values for Dagster's chart, and the job of the first build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from cascade.settings import Settings

JOB = Path(__file__).parents[2] / "k8s" / "jobs" / "build" / "job.yaml"

Values = Callable[[str], dict[str, Any]]


def _deployments(helm_values: Values) -> Iterator[dict[str, Any]]:
    for name in ("dagster.yaml", "dagster-eks.yaml"):
        yield from helm_values(name)["dagster-user-deployments"]["deployments"]


def test_environment_of_the_pipeline_is_project_settings(helm_values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = yaml.safe_load(JOB.read_text())["spec"]["template"]["spec"]["containers"]
    for holder in [*_deployments(helm_values), job]:
        environment = {entry["name"]: entry.get("value", "redis://redis:6379/0") for entry in holder["env"]}
        fields = {f"CASCADE_{name.upper()}" for name in Settings.model_fields}
        assert set(environment) <= fields
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        taken = Settings(_env_file=None)
        assert str(taken.state_dir) in [mount["mountPath"] for mount in holder["volumeMounts"]]


def test_pipeline_writes_where_the_services_read(rendered: Any, helm_values: Values) -> None:
    name = {"local": "dagster.yaml", "eks": "dagster-eks.yaml"}[rendered.overlay]
    (deployment,) = helm_values(name)["dagster-user-deployments"]["deployments"]
    environment = {entry["name"]: entry.get("value") for entry in deployment["env"]}
    state = environment["CASCADE_STATE_DIR"]
    store = environment.get("CASCADE_MODEL_STORE", f"{state}/models")

    for service in ("gateway", "retrieval", "ranker", "features"):
        assert rendered.settings(service)[f"CASCADE_{service.upper()}_MODEL_STORE"] == store
    assert rendered.settings("features")["CASCADE_FEATURES_DATASET"] == f"{state}/shop"
    for service in ("gateway", "features"):
        registry = rendered.settings(service)[f"CASCADE_{service.upper()}_FEAST_REGISTRY"]
        assert registry == f"{state}/feast/registry.db"
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in deployment["volumes"]}
    assert claims <= set(rendered.of("PersistentVolumeClaim"))


def test_runs_are_pods_that_redis_admits_and_schedules_are_on(helm_values: Values) -> None:
    values = helm_values("dagster.yaml")
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert launcher["podTemplateSpecMetadata"]["labels"] == {"cascade.role": "pipeline"}
    assert {"requests", "limits"} == set(launcher["containerConfig"]["resources"])
    for deployment in _deployments(helm_values):
        environment = {entry["name"]: entry.get("value") for entry in deployment["env"]}
        assert environment["CASCADE_AUTOMATION"] == "true"
        assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}
        assert deployment["dagsterApiGrpcArgs"] == ["-m", "orchestration.definitions"]
    assert values["telemetry"] == {"enabled": False}
    # a day goes on from the version of the day before
    coordinator = values["dagsterDaemon"]["runCoordinator"]
    assert coordinator["config"]["queuedRunCoordinator"]["maxConcurrentRuns"] == 1


def test_run_pods_are_ones_that_dagster_knows(helm_values: Values) -> None:
    launcher = helm_values("dagster.yaml")["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]

    known = UserDefinedDagsterK8sConfig.from_dict(
        {
            "container_config": launcher["containerConfig"],
            "pod_spec_config": launcher["podSpecConfig"],
            "pod_template_spec_metadata": launcher["podTemplateSpecMetadata"],
        }
    )

    assert known.pod_spec_config["security_context"]["run_as_non_root"] is True


def test_steps_ask_for_a_gpu_on_eks_alone(helm_values: Values) -> None:
    asked = [
        next(entry["value"] for entry in deployment["env"] if entry["name"] == "CASCADE_STEP_PODS")
        for deployment in _deployments(helm_values)
    ]

    assert asked == ["cpu", "gpu"]


def test_first_build_keeps_to_the_rules_of_pods() -> None:
    job = yaml.safe_load(JOB.read_text())
    template = job["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]

    assert template["metadata"]["labels"]["cascade.role"] == "pipeline"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"requests", "limits"} == set(container["resources"])
    assert container["command"] == ["python", "-m", "orchestration.build"]
