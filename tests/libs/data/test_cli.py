from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli.data import app
from cascade.data.contract import Dataset
from cascade.data.generator import Shop

run = CliRunner().invoke


def test_generate_then_validate(tmp_path: Path) -> None:
    folder = str(tmp_path / "shop")
    made = run(app, ["generate", "--size", "tiny", "--seed", "3", "--out", folder])
    assert made.exit_code == 0, made.output
    assert "150 users, 120 items" in made.output
    assert Shop.load(folder).config.seed == 3
    checked = run(app, ["validate", folder])
    assert checked.exit_code == 0
    assert "on 6 days, 2026-01-05 to 2026-01-10" in checked.output


def test_validate_prints_every_fault_and_fails(folder: Path) -> None:
    (folder / "images" / str(Dataset(folder).items().column("image")[0])).unlink()
    shutil.rmtree(folder / "interactions" / "date=2026-01-06")
    result = run(app, ["validate", str(folder)])
    assert result.exit_code == 1
    assert "items.parquet, image: missing-image" in result.output
    assert "day-gap" in result.output
    assert "2 faults" in result.output


@pytest.mark.parametrize("command", ["generate", "import"])
def test_a_filled_folder_is_left_alone(folder: Path, command: str) -> None:
    arguments = {
        "generate": ["generate", "--out", str(folder)],
        "import": ["import-retail-demo-store", str(folder), str(folder)],
    }[command]
    result = run(app, arguments)
    assert result.exit_code == 1
    assert "is not empty" in result.output
    assert isinstance(result.exception, SystemExit)


def test_errors_end_without_a_traceback(tmp_path: Path) -> None:
    result = run(app, ["import-retail-demo-store", str(tmp_path / "nowhere"), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "products.yaml does not exist" in result.output
    assert isinstance(result.exception, SystemExit)


def test_an_unknown_size_names_the_known_ones(tmp_path: Path) -> None:
    result = run(app, ["generate", "--size", "huge", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "small" in result.output


@pytest.mark.parametrize("command", ["generate", "import-retail-demo-store", "validate"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
