"""A few rows of `make chaos` in their short form, on one fleet of real processes: seconds each instead of a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench.chaos.bad_input import fuzz
from bench.chaos.fleet import Fleet, Shape, fleet
from bench.chaos.rows import ROWS
from bench.chaos.scene import play

SECONDS = 4.0
STAGES = ("FEATURES", "RETRIEVAL", "FILTER", "RANKER")
PATIENT = (
    ("CASCADE_GATEWAY_DEADLINE_MS", "2000"),
    *((f"CASCADE_GATEWAY_{stage}_TIMEOUT_MS", "600") for stage in STAGES),
)
"""More time than in earnest: on a machine that other work keeps busy, only what is broken is to be late."""
SHORT = ("kill-ranker", "stop-filter", "redis-read-only", "bundle-flipped")

pytestmark = pytest.mark.timeout(600)


class Running:
    """A fleet on a loop of its own, that lives as long as the module's tests."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self.fleet: Fleet = self.loop.run_until_complete(
            self._stack.enter_async_context(fleet(state, folder, Shape(environment=PATIENT)))
        )

    def close(self) -> None:
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def running(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running(state_dir, tmp_path_factory.mktemp("chaos"))
    yield found
    found.close()


@pytest.mark.parametrize("name", SHORT)
def test_it_holds(running: Running, name: str) -> None:
    row = ROWS[name]
    result = running.loop.run_until_complete(play(row, running.fleet, SECONDS))
    print(result)
    # Times are those of a machine that others use: `make chaos` holds them, this holds everything else.
    faults = [fault for fault in result.faults if not fault.startswith(("p99", "whole only"))]
    assert faults == []
    assert result.answers > 100
    if row.may_degrade:
        assert set(result.degraded) == row.may_degrade
    if name.startswith("redis"):
        assert result.rejected > 0


@pytest.mark.parametrize("service", ["gateway-1", "filter"])
def test_no_request_is_too_strange(running: Running, service: str, tmp_path: Path) -> None:
    found = fuzz(running.fleet.members[service].url, 3, tmp_path)
    assert found.failures == (), (tmp_path / "output.txt").read_text()[-5000:]
    assert found.cases >= 100
