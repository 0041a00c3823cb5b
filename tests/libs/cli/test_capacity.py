"""`cascade capacity` in a terminal: what it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli import app


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside a checkout
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: CliRunner().invoke(app, ["capacity", *words])


def test_a_plan_outside_a_checkout(run) -> None:
    done = run("--rps", "3000", "--p99", "60ms", "--catalog", "10000000", "--users", "100000000")
    assert done.exit_code == 0, done.output
    assert "…" not in done.output
    told = " ".join(done.output.split())  # cells are wrapped, as wide as their words are
    for word in ("gateway", "catalog", "r7i", "a million requests", "packaged", "examples near"):
        assert word in told


def test_json_alone(run) -> None:
    done = run("--rps", "100", "--json", "--spot", "--p99", "0.1s")
    told = json.loads(done.stdout)
    assert told["target"]["p99"] == pytest.approx(0.1)
    assert told["target"]["spot"] is True
    assert len(told["stages"]) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--p99", "5ms"], "a p99 of 5 ms cannot be held by any number of replicas"),
        (["--p99", "fast"], "--p99 is 'fast'; give a duration like 50ms or 0.2s"),
        (["--hop", "0ms"], "--hop is '0ms'"),
        (["--concurrency", "5"], "--concurrency is 5; the bench measured 1, 4, 16, 64"),
        (["--plot", "x.svg"], "are of a simulated day: add --simulate"),
        (["--simulate", "--scaling", "gut"], "--scaling is gut; give wait, cpu, both"),
        (["--nodes", "none.toml"], "no nodes can be read from none.toml"),
        (["--costs", "none.json"], "no costs can be read from none.json"),
        (["--gpu", "none.json"], "nothing is planned for a GPU that was not measured"),
    ],
)
def test_what_is_wrong_is_a_sentence(run, words: list[str], told: str) -> None:
    done = run(*words)
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())


def test_a_day_and_its_picture(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cascade.capacity import simulation

    whole = simulation.Settings

    def short(**values: float) -> simulation.Settings:
        return whole(**{**values, "day_s": 3600.0, "follow": 20})  # type: ignore[arg-type]

    monkeypatch.setattr(simulation, "Settings", short)
    words = ("--simulate", "--scaling", "both", "--flash-hour", "0.5", "--rps", "400")
    done = run(*words, "--plot", "day.svg")
    assert done.exit_code == 0, done.output
    assert "A day through autoscaler and Karpenter" in done.output
    assert "<svg" in (tmp_path / "day.svg").read_text()
    told = json.loads(run(*words, "--json").stdout)
    assert [day["scaling"] for day in told["days"]] == ["both"]
    assert 0 <= told["days"][0]["dropped"] <= 1
