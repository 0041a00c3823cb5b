"""Requests that no sane client sends, drawn from each service's own OpenAPI by Schemathesis, to real processes.

Real ones, because the hot routes stand beside ASGI: in process another way would be tested than the one that serves.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos.fleet import Shape, fleet
from bench.chaos.result import Result
from bench.system import built, state_folder

CASES = 10_000
SERVICES = ("gateway-1", "retrieval", "filter", "ranker", "features")
_ENDLESS = "/v1/live$|/events$"
"""Streams that end when the reader goes: a reader that waits for the end would wait for ever."""
_CONFIG = """
# What no schema can say is refused all the same: 409 and 422 for what is at odds with the rest (an id that is not
# normalised, a moment of another time, two orders for one list), 404 for what is not there, 410 for a user who was
# forgotten, 401 without a key.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "404", "409", "410", "422", "429", "503"]
"""
_LEFT_OUT = "use_after_free"
"""A user is nothing that has to exist: one who was forgotten is asked about as one whom nobody knows."""
_ALSO_A_USER = "/v1/users/{user_id}/history"
"""An id may hold slashes: this is the path of a user whose id ends in /history as well, and takes its methods."""
_KEPT_BY_A_KEY = ("/v1/models/{service}/promote", "/v1/models/{service}/rollback")
"""Whoever has no key is told so, whatever the method."""
_OF_METHODS = ("Wrong response to undeclared method", "Allow header mismatch")


@dataclass(frozen=True)
class Fuzzed:
    """What was found. cases: requests sent; failures: one line each."""

    cases: int
    failures: tuple[str, ...]


def fuzz(url: str, examples: int, folder: Path, *, seed: int = 1, timeout_s: float = 3000.0) -> Fuzzed:
    """Up to `examples` cases for each operation of the service, all checks on, and what its phases add."""
    folder.mkdir(parents=True, exist_ok=True)
    config, report = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(_CONFIG)
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{url}/openapi.json",
            "--checks", "all", "--exclude-checks", _LEFT_OUT, "--exclude-path-regex", _ENDLESS,
            "--max-examples", str(examples),
            "--seed", str(seed), "--continue-on-failure", "--request-timeout", "10", "--suppress-health-check", "all",
            "--report", "json", "--report-json-path", str(report), "--workers", "1", "--no-shrink",
        ],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=folder,
    )  # fmt: skip
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    if not report.exists():
        raise RuntimeError(f"Schemathesis ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return read_report(json.loads(report.read_text()))


def read_report(report: Mapping[str, Any]) -> Fuzzed:
    """The counts of Schemathesis's own report; an incomplete run, and its own errors, are failures too."""
    failures = []
    for one in report["failures"]:
        excused = (_ALSO_A_USER, *_KEPT_BY_A_KEY) if one["title"] in _OF_METHODS else ()
        where = [name for name in one["operations"] if not name.endswith(excused)]
        if where:
            failures.append(f"{one['title']} × {one['count']}: {', '.join(where)}")
    failures += [f"{one['title']} × {one['count']}" for one in report["errors"]]
    if not report["complete"]:
        failures.append(f"it stopped early: {report['stop_reason']}")
    return Fuzzed(int(report["test_cases"]["generated"]), tuple(failures))


def run(result: Result, folder: Path) -> None:
    """Every service of a fleet, until there are CASES cases and more."""
    began = time.monotonic()
    asyncio.run(_run(result, folder))
    result.seconds = round(time.monotonic() - began, 1)


async def _run(result: Result, folder: Path, examples: int = 500) -> None:
    async with fleet(built(state_folder()), folder / "fleet", Shape()) as running:
        total = 0
        for name in SERVICES:
            found = await asyncio.to_thread(fuzz, running.members[name].url, examples, folder / name)
            total += found.cases
            result.told.append(f"{name}: {found.cases:,} cases, {len(found.failures)} failures")
            for failure in found.failures[:5]:
                result.faults.append(f"{name}: {failure}")
        result.require(total >= CASES, f"{total:,} cases instead of {CASES:,}")
        result.told.append(f"{total:,} cases in all")
