"""`python -m bench.chaos [ROW …] [--seconds 60]`: run rows, keep what they found, and write the page."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from bench.chaos.catalog import NAMES, OTHERS
from bench.chaos.fleet import Shape, fleet
from bench.chaos.page import PAGE, known, written
from bench.chaos.result import Result
from bench.chaos.rows import ROWS
from bench.chaos.scene import Row, play
from bench.machine import machine
from bench.system import built, state_folder


def main(
    rows: Annotated[list[str] | None, typer.Argument(help=f"Which of {', '.join(NAMES)}; none: all.")] = None,
    seconds: Annotated[float, typer.Option(help="How long a row takes, about.")] = 60.0,
    soak_seconds: Annotated[float, typer.Option(help="How long the soak takes.")] = 3600.0,
) -> None:
    """Run the rows; ends with 1 where one did not hold."""
    chosen = rows or list(NAMES)
    for name in chosen:
        if name not in NAMES:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(NAMES)}")
    measured = _measured()
    results: list[Result] = []
    for shape, group in _by_shape([ROWS[name] for name in chosen if name in ROWS]).items():
        results += asyncio.run(_play(shape, group, seconds, soak_seconds, measured))
    results += [_other(name, measured) for name in chosen if name in OTHERS]
    PAGE.write_text(written(PAGE.read_text(), known()))
    if not all(result.held for result in results):
        raise SystemExit(1)


def _by_shape(rows: list[Row]) -> dict[Shape, list[Row]]:
    found: dict[Shape, list[Row]] = {}
    for row in rows:
        found.setdefault(row.shape, []).append(row)
    return found


async def _play(
    shape: Shape, rows: list[Row], seconds: float, soak_seconds: float, measured: dict[str, str]
) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory(prefix="cascade-chaos-") as folder:
        async with fleet(built(state_folder()), Path(folder), shape) as running:
            for row in rows:
                result = await play(row, running, soak_seconds if row.name == "soak" else seconds)
                results.append(_kept(result, measured))
    return results


def _other(name: str, measured: dict[str, str]) -> Result:
    row = OTHERS[name]
    result = Result(row.name, row.title, row.must)
    with tempfile.TemporaryDirectory(prefix="cascade-chaos-") as folder:
        importlib.import_module(f"bench.chaos.{row.module}").run(result, Path(folder))
    return _kept(result, measured)


def _kept(result: Result, measured: dict[str, str]) -> Result:
    result.measured = measured
    result.write()
    state = "held" if result.held else f"DID NOT HOLD: {'; '.join(result.faults)}"
    print(f"{time.strftime('%H:%M:%S')} {result.row}: {state}; {result}", flush=True)
    return result


def _measured() -> dict[str, str]:
    told = machine()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    return {
        "processor": told["processor"],
        "cores": told["cores"],
        "memory": told["memory"],
        "python": told["python"].split(" ")[0],
        "commit": (commit or "unknown") + (" with changes" if changed else ""),
        "on": told["measured"][:10],
    }


if __name__ == "__main__":
    typer.run(main)
