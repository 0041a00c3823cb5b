"""The page on capacity names what is there: options of the command, files, figures, and the constants it quotes."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import typer

from cascade.capacity import autoscaler, memory, node_pool, packing, plan, simulation
from cascade.capacity.costs import NAMES
from cascade.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "capacity.md").read_text()


def test_options_are_the_commands() -> None:
    command = typer.main.get_command(app).get_command(None, "capacity")  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    quoted = set(re.findall(r"--[a-z][a-z0-9-]*", PAGE)) - {"--items"}
    assert quoted
    assert quoted <= known


def test_files_are_there() -> None:
    for path in re.findall(r"`((?:libs|bench|tests|k8s|capacity)/[\w./-]+\.\w+)", PAGE):
        assert (ROOT / path).exists() or (ROOT / "libs" / "cascade" / path).exists(), path
    assert (ROOT / "docs" / re.findall(r"!\[.*\]\((.*\.svg)\)", PAGE)[0]).exists()


def test_figures_are_read() -> None:
    quoted = re.findall(r"`((?:request_path|catalog_scale|stages|memory|filter|online)\.[\w.*]+)`", PAGE)
    assert quoted
    for pattern in quoted:
        assert any(fnmatch(name, pattern) for name in NAMES), pattern


def test_constants_are_those_of_the_code() -> None:
    assert (plan.HOPS, plan.REDIS_UTILISATION, packing.SPREAD) == (5, 0.7, 0.5)
    assert (memory.WHILE_SWAPPING, memory.REDIS_RESERVE) == (2, 1.25)
    assert (autoscaler.SYNC_S, autoscaler.TOLERANCE, node_pool.GATHER_S) == (15, 0.1, 5)
    settings = simulation.Settings()
    assert (settings.pod_start, settings.node_start, settings.metric_delay, settings.follow) == (40, 75, 15, 60)
    assert (simulation.STEP_S, simulation.WINDOW_S) == (5, 30)
