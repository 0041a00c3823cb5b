"""The Dockerfile and what stands around it; images themselves are built, started and scanned by the workflow."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

from supply_chain.locks import BUILD, TORCH_CPU, TORCH_CUDA, path_of
from supply_chain.locks import SERVICES as DEPLOYABLES

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "k8s" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "images.yml").read_text())
SERVICES = {"gateway", "retrieval", "filter", "ranker", "features"}


def test_every_deployable_has_an_extra_and_an_image() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (accepted,) = re.findall(r'case "\$SERVICE" in ([\w|]+)\)', DOCKERFILE)
    assert set(accepted.split("|")) == SERVICES | {"orchestration"}
    assert set(accepted.split("|")) | {"s3"} <= set(extras)

    built = {
        (entry["service"], entry["variant"]) for entry in WORKFLOW["jobs"]["images"]["strategy"]["matrix"]["include"]
    }
    assert {service for service, variant in built if variant == "cpu"} == SERVICES | {"orchestration"}
    assert {service for service, variant in built if variant == "cuda"} == {"retrieval", "ranker", "orchestration"}


def test_the_image_runs_as_the_pods_do() -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)
    patch = yaml.safe_load((ROOT / "k8s" / "base" / "shared" / "rollout.patch.yaml").read_text())
    (pod,) = (entry["value"] for entry in patch if entry["path"] == "/spec/template/spec/securityContext")

    assert (int(user[0]), int(user[1])) == (pod["runAsUser"], pod["runAsGroup"])
    assert DOCKERFILE.count("\nFROM ") == 2
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_builder_sees_what_the_dockerfile_copies() -> None:
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in shown), source


def test_an_image_holds_what_its_locks_name_and_nothing_else() -> None:
    installs = re.findall(r"pip (?:install|wheel)\b(.*)", DOCKERFILE)
    assert installs
    for arguments in installs:
        assert "--no-deps" in arguments or "--require-hashes" in arguments or arguments.strip().startswith('"$@"')
    assert "set -- --require-hashes" in DOCKERFILE
    named = set(re.findall(r"requirements/([\w-]+)\.lock", DOCKERFILE))
    assert named == {TORCH_CPU, TORCH_CUDA, "faiss-gpu", BUILD}
    assert set(SERVICES) | {"orchestration"} == set(DEPLOYABLES)
    assert all(path_of(name).exists() for name in (*named, *DEPLOYABLES))


def test_the_workflow_looks_at_what_the_locks_hold() -> None:
    steps = [step.get("run", "") for step in WORKFLOW["jobs"]["supply-chain"]["steps"]]
    assert {"make locked", "make audit", "make sbom"} <= set(steps)


def test_the_workflow_builds_tests_and_scans() -> None:
    steps = [step.get("run", step.get("uses", "")) for step in WORKFLOW["jobs"]["images"]["steps"]]

    for wanted in ("docker build", "k8s/images/test.sh", "trivy-action"):
        assert any(wanted in step for step in steps), wanted


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_health_is_asked_where_the_service_listens(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"CASCADE_{service.upper()}_PORT", "9123")
    url_of = runpy.run_path(str(IMAGES / "healthcheck.py"))["url_of"]

    assert url_of(service) == "http://127.0.0.1:9123/healthz"


def test_no_answer_is_no_health(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CASCADE_SERVICE", "filter")
    monkeypatch.setenv("CASCADE_FILTER_PORT", "1")

    assert runpy.run_path(str(IMAGES / "healthcheck.py"))["main"]() == 1
    assert "filter does not answer" in capsys.readouterr().err
