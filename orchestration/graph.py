"""The graph of assets, checks and jobs under given settings."""

from __future__ import annotations

import dagster as dg

from cascade.settings import Settings
from orchestration import checks, release_jobs
from orchestration.assets import embeddings, evaluation, features, online, raw, release, training, transforms
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace

BUILD_JOB = "build"


def all_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Every asset, for the shop that the settings name."""
    modules = [raw, features, transforms, embeddings, training, evaluation, online, release]
    loaded = [asset for asset in dg.load_assets_from_modules(modules) if isinstance(asset, dg.AssetsDefinition)]
    return [*loaded, raw.interactions_asset(settings)]


def create_definitions(settings: Settings) -> dg.Definitions:
    """Definitions under these settings."""
    assets = all_assets(settings)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks.ALL,
        jobs=[
            dg.define_asset_job(
                BUILD_JOB, selection=dg.AssetSelection.all(), description="everything, from data to released bundles"
            ),
            *release_jobs.JOBS,
        ],
        resources={"workspace": Workspace(settings, Provenance(assets, settings))},
        # one process: the steps share loaded libraries, and two cores gain nothing from more
        executor=dg.in_process_executor,
    )
