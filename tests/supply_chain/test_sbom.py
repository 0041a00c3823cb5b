"""A bill of materials names all that its image holds, and is a valid one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from supply_chain import licences, sbom
from supply_chain.locks import SERVICES, TORCH_CUDA, path_of, read

DOCKERFILE = (Path(__file__).parents[2] / "k8s" / "images" / "Dockerfile").read_text()

Bills = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Bills:
    try:
        written = list(sbom.write(tmp_path_factory.mktemp("sbom"), licences.rules()))
    except sbom.NotInstalled as reason:  # newer versions than the locked ones are installed, and need less
        pytest.skip(str(reason))
    return {path.name.removesuffix(".cdx.json"): json.loads(path.read_text()) for path in written}


def test_every_image_has_one(bills: Bills) -> None:
    with_torch = {"retrieval", "ranker", "orchestration"}
    assert set(bills) == {f"{name}-cpu" for name in SERVICES} | {f"{name}-cuda" for name in with_torch}


def test_they_are_valid(bills: Bills) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for name, bill in bills.items():
        assert validator.validate_str(json.dumps(bill)) is None, name


def test_every_distribution_of_the_lock_is_there_with_version_licence_and_hash(bills: Bills) -> None:
    for name, bill in bills.items():
        service, variant = name.rsplit("-", 1)
        components = {one["name"]: one for one in bill["components"]}
        locks = (service, TORCH_CUDA) if variant == "cuda" else (service,)
        expected = {pin.name: pin for lock in locks for pin in read(path_of(lock)) if pin.applies(sbom.IMAGE)}
        if variant == "cuda":
            expected.pop("faiss-cpu", None)
        assert set(expected) <= set(components)
        for pin in expected.values():
            component = components[pin.name]
            hashes = {one["content"] for one in component["hashes"] if one["alg"] == "SHA-256"}
            if variant == "cpu" and pin.name == "torch":
                assert component["version"] == f"{pin.version}+cpu"
                assert hashes < pin.hashes
            else:
                assert component["version"] == pin.version
                assert hashes == pin.hashes
            assert component["licenses"], pin.name
            assert component["purl"].startswith(f"pkg:pypi/{pin.name}@")


def test_builds_for_a_gpu_bring_cudas_libraries_and_others_none(bills: Bills) -> None:
    for name, bill in bills.items():
        held = {one["name"] for one in bill["components"]}
        assert any(one.startswith("nvidia-") for one in held) is name.endswith("-cuda")
        assert not {"faiss-cpu", "faiss-gpu-cu12"} <= held
    assert "faiss-gpu-cu12" in {one["name"] for one in bills["retrieval-cuda"]["components"]}
    assert "pywin32" not in {one["name"] for one in bills["orchestration-cpu"]["components"]}


def test_the_system_is_that_of_the_images() -> None:
    assert re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE, flags=re.MULTILINE) == [sbom.IMAGE["python_version"]]


def test_a_distribution_without_a_licence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "licence_of", lambda name, by: "" if name == "pydantic" else "MIT")
    with pytest.raises(sbom.NoLicence, match=r"pydantic \S+ says nothing of its licence: say it in licences\.toml"):
        sbom.bill("filter", "cpu", licences.rules())


def test_one_that_is_not_here_to_say_its_licence_is_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "licence_of", lambda name, by: "")
    monkeypatch.setattr(sbom, "_installed", lambda name: None)
    with pytest.raises(sbom.NotInstalled, match="run `make locked` first"):
        sbom.bill("filter", "cpu", licences.rules())


def test_equal_locks_make_equal_bills(bills: Bills) -> None:
    again = json.loads(sbom.JsonV1Dot6(sbom.bill("filter", "cpu", licences.rules())).output_as_string())
    assert again["serialNumber"] == bills["filter-cpu"]["serialNumber"]
    assert len({bill["serialNumber"] for bill in bills.values()}) == len(bills)
