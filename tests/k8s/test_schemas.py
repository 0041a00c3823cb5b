"""Every rendered object is one that the cluster's API would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

KUBERNETES = "1.32"
SCHEMAS = Path(__file__).parents[3] / "shared" / "k8s-schemas"
CUSTOM = ("argoproj.io", "karpenter.sh", "karpenter.k8s.aws", "monitoring.coreos.com", "external-secrets.io")


def _group(found: dict[str, Any]) -> str:
    return str(found["apiVersion"]).rpartition("/")[0]


def _name(found: dict[str, Any]) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def test_core_kinds_are_what_kubernetes_knows(rendered: Any) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra `dev`)")
    core = [found for found in rendered.objects if _group(found) not in CUSTOM]

    faults = {}
    for found in core:
        try:
            validate.validate(found, KUBERNETES, strict=True)
        except validate.ValidationError as error:
            faults[_name(found)] = error.message

    assert len(core) > 30
    assert faults == {}


def test_custom_kinds_keep_to_their_schemas(rendered: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with kubernetes-validate (extra `dev`)")
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas of custom kinds in {SCHEMAS}: Rollouts, NodePools and rules are not validated")
    custom = [found for found in rendered.objects if _group(found) in CUSTOM]

    faults = {}
    for found in custom:
        version = found["apiVersion"].rpartition("/")[2]
        schema = json.loads((SCHEMAS / _group(found) / f"{found['kind'].lower()}_{version}.json").read_text())
        if errors := [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(found)]:
            faults[_name(found)] = errors

    assert len(custom) > 10
    assert faults == {}


def test_no_object_is_twice(rendered: Any) -> None:
    names = [(_group(found), _name(found), found["metadata"].get("namespace")) for found in rendered.objects]

    assert len(names) == len(set(names))
