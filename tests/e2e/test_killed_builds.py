"""A build is killed in the middle of two assets: the next one goes on from what is whole, to the same bundles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.chaos.builds import Builds
from cascade.online.server import RedisServer, free_port

ASSETS = {"popularity", "evaluation_rows"}

pytestmark = pytest.mark.timeout(600)


def test_a_build_that_was_killed_completes(state_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "state"
    shutil.copytree(state_dir, copy, ignore=shutil.ignore_patterns("run", "redis", "*.log"))
    with RedisServer(tmp_path / "redis", free_port(), appendfsync="no") as server:
        builds = Builds(copy, server)
        before = builds.versions()
        assert all(before.values())
        for asset in ASSETS:
            shutil.rmtree(builds.settings.artifacts_dir / asset)
        killed: set[str] = set()
        over: set[str] = set()
        while (found := builds.killed_in(ASSETS, killed | over)) is not None:
            killed, over = killed | found[0], over | found[1]
        assert killed | over == ASSETS
        assert killed, "it was killed only after they were over"
        builds.complete()
        assert builds.versions() == before
        assert "up to date" in builds.complete()
