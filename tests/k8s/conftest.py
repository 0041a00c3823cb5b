"""The manifests as a cluster would get them: every overlay, rendered."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())

Object = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """All objects of an overlay."""

    overlay: str
    objects: list[Object]

    def of(self, kind: str) -> dict[str, Object]:
        """Objects of a kind, by name."""
        return {found["metadata"]["name"]: found for found in self.objects if found["kind"] == kind}

    def one(self, kind: str, name: str) -> Object:
        """That one."""
        return self.of(kind)[name]

    def workloads(self) -> dict[str, Object]:
        """Whatever makes pods, by name."""
        return {**self.of("Rollout"), **self.of("StatefulSet"), **self.of("Deployment"), **self.of("Job")}

    def containers(self) -> Iterator[tuple[str, Object, Object]]:
        """Name of the workload, its pod's spec, and each container."""
        for name, workload in self.workloads().items():
            pod = workload["spec"]["template"]["spec"]
            for container in [*pod["containers"], *pod.get("initContainers", [])]:
                yield name, pod, container

    def settings(self, service: str) -> dict[str, str]:
        """The environment of a service's container; values that come from Secrets are empty."""
        container = self.one("Rollout", service)["spec"]["template"]["spec"]["containers"][0]
        found: dict[str, str] = {}
        for source in container["envFrom"]:
            found |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


@pytest.fixture(scope="session", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Each overlay in turn."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed: the manifests are not looked at")
    folder = K8S / "overlays" / request.param
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Rendered(request.param, [found for found in yaml.safe_load_all(done.stdout) if found])


@pytest.fixture(scope="session")
def helm_values() -> Callable[[str], Object]:
    """Reads our values for a chart that is not ours."""

    def read(name: str) -> Object:
        values: Object = yaml.safe_load((K8S / "helm" / name).read_text())
        return values

    return read
