"""Everything Dagster shows: `dagster dev -m orchestration.definitions`."""

from __future__ import annotations

from cascade.settings import Settings
from orchestration.graph import create_definitions

defs = create_definitions(Settings())
