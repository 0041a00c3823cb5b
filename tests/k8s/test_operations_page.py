"""docs/operations.md speaks of files, settings and alerts that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cascade.settings import Settings
from services.features.settings import FeaturesSettings
from services.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_files_it_names_are_there() -> None:
    named = set(re.findall(r"\b(?:k8s|docs|orchestration|tests)/[\w./-]*\w", PAGE))

    assert len(named) > 8
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_settings_it_names_are_fields() -> None:
    named = set(re.findall(r"\bCASCADE_[A-Z_]+[A-Z]\b", PAGE))
    known = {f"CASCADE_{name.upper()}" for name in Settings.model_fields}
    known |= {f"CASCADE_FEATURES_{name.upper()}" for name in FeaturesSettings.model_fields}
    known |= {f"CASCADE_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields}

    assert named
    assert named <= known


def test_every_alert_says_where_to_look() -> None:
    rules: dict[str, Any] = yaml.safe_load((ROOT / "k8s" / "components" / "monitoring" / "rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]}

    assert alerts == set(re.findall(r"\bCascade[A-Z]\w+", PAGE))
