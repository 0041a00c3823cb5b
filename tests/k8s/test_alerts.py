"""Every alert fires when it should and is silent when it should: unit tests in promtool's own format."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

MONITORING = Path(__file__).parents[2] / "k8s" / "components" / "monitoring"
RULES: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
UNIT_TESTS = sorted((MONITORING / "tests").glob("*.yaml"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: the alerts' rules are not run"
)


def cases() -> list[dict[str, Any]]:
    return [case for path in UNIT_TESTS for case in yaml.safe_load(path.read_text())["tests"]]


def promtool(folder: Path, rules: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the unit tests in a folder, on these rules: the operator's object holds what Prometheus has in a file."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    copies = [shutil.copy(path, folder) for path in UNIT_TESTS]
    return subprocess.run(["promtool", "test", "rules", *copies], capture_output=True, text=True, check=False)


@needs_promtool
def test_rules_pass_their_unit_tests(tmp_path: Path) -> None:
    done = promtool(tmp_path, RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_an_alert_that_never_fires_is_found(tmp_path: Path) -> None:
    quiet = yaml.safe_load(yaml.safe_dump(RULES))
    for rule in (rule for group in quiet["groups"] for rule in group["rules"]):
        rule["expr"] = "vector(1) == 2"
    done = promtool(tmp_path, quiet)
    assert done.returncode != 0
    assert set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr)) == set(ALERTS)


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_has_a_firing_and_a_silent_case(alert: str) -> None:
    tried = {case["name"]: case["alert_rule_test"] for case in cases()}
    assert any(one["exp_alerts"] for one in tried[f"{alert} fires"])
    assert all(one["alertname"] == alert for word in ("fires", "is silent") for one in tried[f"{alert} {word}"])
    assert not any(one["exp_alerts"] for one in tried[f"{alert} is silent"])


def test_cases_feed_series_that_the_rules_ask_for() -> None:
    for case in cases():
        asked = set(re.findall(r"\bcascade_\w+", ALERTS[case["name"].split()[0]]["expr"]))
        given = {one["series"].split("{")[0] for one in case["input_series"]}
        assert given == asked, case["name"]
