"""The Dagster instance that a build prepares."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.assets.fine_tuning import POOL
from orchestration.build import prepare_instance


def test_the_daily_loop_is_limited_before_its_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else several days asked for at once would start together, and none would go on from the day before."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))  # restored afterwards
    instance = prepare_instance(tmp_path / "dagster")
    try:
        storage = instance.event_log_storage
        assert storage.get_concurrency_keys() == {POOL}
        assert storage.get_concurrency_info(POOL).slot_count == 1
    finally:
        instance.dispose()
