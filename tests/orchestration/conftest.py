"""Settings over an empty state folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from cascade.settings import Settings
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, state_dir=tmp_path / "state", shop_size="tiny", seed=3)


@pytest.fixture
def workspace_of(settings: Settings) -> Callable[[list[dg.AssetsDefinition]], Workspace]:
    return lambda assets: Workspace(settings, Provenance(assets, settings))
