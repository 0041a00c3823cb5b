"""What the bench writes: pages for people, `latest.json` for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import Figure, Target, figures_table, shown
from bench.report import Report


def test_a_figure_is_the_median_with_its_spread() -> None:
    figure = Figure("area.p50", (3.0, 1.0, 2.0), "ms", Target(at_most=2.5))
    assert (figure.value, figure.spread) == (2.0, (1.0, 3.0))
    assert figure.to_json() == {
        "value": 2.0,
        "unit": "ms",
        "target": {"at_most": 2.5},
        "met": True,
        "spread": [1.0, 3.0],
        "repeats": 3,
        "note": "",
    }


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(at_most=1), 1.0, True),
        (Target(at_most=1), 1.1, False),
        (Target(at_least=5), 5.0, True),
        (Target(at_least=5), 4.9, False),
        (Target(at_most=0), 1.0, False),
    ],
)
def test_targets(target: Target, value: float, met: bool) -> None:
    assert target.met_by(value) is met


def test_a_missed_target_is_told() -> None:
    missed = Figure("a.b", (9.0,), "ms", Target(at_most=4))
    assert "**missed**" in figures_table([missed])[-1]
    assert "≤ 4" in figures_table([missed])[-1]
    assert "≥ 500" in figures_table([Figure("a.c", (600.0,), "requests/s", Target(at_least=500))])[-1]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.00012345, "0.00012"), (0.5, "0.5"), (12.345, "12.3"), (123456.7, "123,457")]
)
def test_numbers_are_shown_short(value: float, text: str) -> None:
    assert shown(value) == text


def test_areas_share_one_file_and_replace_their_own_figures_alone(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        report = Report("first", "The first", tmp_path)
        report.figure("p50", [value, value + 1], "ms", at_most=4)
        if value == 1.0:
            report.figure("gone", 3.0, "ms")
        report.say("A sentence.")
        report.table(("a", "b"), [(1, 2)])
        with report.plot("curve", "x", "y", "A curve") as axes:
            axes.plot([1, 2], [1, 2])
        page = report.write().read_text()
        other = Report("second", "The second", tmp_path, quick=True)
        other.figure("rps", 10.0, "requests/s")
        other.write()
    latest = json.loads((tmp_path / "latest.json").read_text())
    assert list(latest["figures"]) == ["first.p50", "second.rps"]
    assert latest["figures"]["first.p50"]["value"] == 2.5
    assert latest["areas"]["first"]["cores"].isdigit()
    assert "| a | b |" in page
    assert "A sentence." in page
    assert "![A curve](first-curve.svg)" in page
    assert (tmp_path / "first-curve.svg").read_text().startswith("<?xml")
    assert "A quick run" in (tmp_path / "second.md").read_text()


def test_the_command_names_its_areas() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "request_path" in done.stderr
