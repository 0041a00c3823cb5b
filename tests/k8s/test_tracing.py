"""The component `tracing`, as an overlay gets it when its line is no comment any more."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())
TRACED = {"gateway", "retrieval", "filter", "ranker"}
COMMENTED = "  # - ../../components/tracing\n"
COLLECTOR_PORT = 4318


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All objects of an overlay with the component."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: the manifests are not looked at")
    folder = Path(shutil.copytree(K8S, tmp_path_factory.mktemp("tracing") / "k8s")) / "overlays" / request.param
    file = folder / "kustomization.yaml"
    text = file.read_text()
    assert text.count(COMMENTED) == 1
    file.write_text(text.replace(COMMENTED, COMMENTED.replace("# ", "")))
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def settings_of(objects: list[dict[str, Any]], service: str) -> dict[str, str]:
    container = of(objects, "Rollout")[service]["spec"]["template"]["spec"]["containers"][0]
    maps = of(objects, "ConfigMap")
    return {k: v for source in container["envFrom"] for k, v in maps[source["configMapRef"]["name"]]["data"].items()}


def test_services_on_a_lists_way_are_told_the_collector(objects: list[dict[str, Any]]) -> None:
    told = {
        service: (
            settings_of(objects, service).get(f"CASCADE_{service.upper()}_TRACING_ENDPOINT"),
            settings_of(objects, service).get(f"CASCADE_{service.upper()}_TRACING_SAMPLE"),
        )
        for service in of(objects, "Rollout")
    }

    asked = {service for service, (endpoint, _) in told.items() if endpoint}
    assert asked == TRACED
    ((endpoint, sample),) = {told[service] for service in TRACED}  # one collector, and one share
    assert endpoint == f"http://otel-opentelemetry-collector.observability:{COLLECTOR_PORT}"
    assert 0 < float(str(sample)) < 1


def test_they_and_no_others_reach_it_and_nothing_else_there(objects: list[dict[str, Any]]) -> None:
    policy = of(objects, "NetworkPolicy")["to-collector"]["spec"]

    assert policy["policyTypes"] == ["Egress"]
    (who,) = policy["podSelector"]["matchExpressions"]
    assert set(who["values"]) == TRACED
    (rule,) = policy["egress"]
    (peer,) = rule["to"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "observability"}
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "opentelemetry-collector"}
    assert rule["ports"] == [{"protocol": "TCP", "port": COLLECTOR_PORT}]


def test_what_it_adds_is_what_kubernetes_knows(objects: list[dict[str, Any]]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra `dev`)")

    validate.validate(of(objects, "NetworkPolicy")["to-collector"], "1.32", strict=True)


def test_without_it_nobody_traces(rendered: Any) -> None:
    assert "to-collector" not in rendered.of("NetworkPolicy")
    for service in rendered.of("Rollout"):
        assert f"CASCADE_{service.upper()}_TRACING_ENDPOINT" not in rendered.settings(service)


def test_images_have_what_sends_traces() -> None:
    requirements = K8S.parent / "requirements"
    for service in ("gateway", "retrieval", "filter", "ranker", "features"):
        assert "opentelemetry-sdk==" in (requirements / f"{service}.lock").read_text(), service
