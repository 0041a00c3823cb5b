"""A build is killed in the middle of two assets, and between an asset and its check.

The next one goes on from what is whole, to the same bundles; it checks first what nobody has checked.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.chaos.builds import Builds
from cascade.online.server import RedisServer, free_port
from orchestration.assets.features import ROWS

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


def test_what_a_kill_left_unchecked_is_checked_before_it_is_read(state_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "state"
    shutil.copytree(state_dir, copy, ignore=shutil.ignore_patterns("run", "redis", "*.log"))
    with RedisServer(tmp_path / "redis", free_port(), appendfsync="no") as server:
        builds = Builds(copy, server)
        builds.complete()
        before, artifacts = builds.versions(), builds.settings.artifacts_dir
        builds.killed_before_the_check_of("evaluation_rows")
        shutil.rmtree(artifacts / "evaluation_set")  # which is made of them

        rows = artifacts / "evaluation_rows" / ROWS
        good, table = rows.read_bytes(), pq.read_table(rows)
        leaking = table.set_column(
            table.schema.get_field_index("feature_timestamp"), "feature_timestamp", table.column("timestamp")
        )
        pq.write_table(leaking, rows)
        for _ in range(2):  # a check that failed is no better than one that did not run
            code, printed = builds.tried()
            assert code == 1
            assert "Check no_leakage_in_evaluation of evaluation_rows failed" in printed
            assert not (artifacts / "evaluation_set").exists()

        rows.write_bytes(good)
        assert "no_leakage_in_evaluation" in builds.complete()
        assert (artifacts / "evaluation_set").is_dir()
        assert builds.versions() == before
        assert "up to date" in builds.complete()
