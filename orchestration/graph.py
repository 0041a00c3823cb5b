"""The graph of assets, checks, jobs, schedules and sensors under given settings."""

from __future__ import annotations

import dagster as dg

from cascade.settings import Settings
from orchestration import automation, canary_jobs, checks, release_jobs, retention_jobs
from orchestration.assets import (
    adaptation,
    drift,
    embeddings,
    evaluation,
    features,
    fine_tuning,
    new_items,
    online,
    raw,
    release,
    training,
    transforms,
)
from orchestration.cluster import step_executor
from orchestration.jobs import ADAPTATION_JOB, BUILD_JOB, DRIFT_JOB, FINE_TUNING_JOB, NEW_ITEMS_JOB, full_retrain
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace

__all__ = ["BUILD_JOB", "all_assets", "base_assets", "create_definitions"]


def base_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """What the full training makes, from data to released bundles, for the shop that the settings name."""
    modules = [raw, features, transforms, embeddings, training, evaluation, online, release]
    loaded = [asset for asset in dg.load_assets_from_modules(modules) if isinstance(asset, dg.AssetsDefinition)]
    return [*loaded, raw.interactions_asset(settings)]


def all_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Every asset: those, the daily loop's and what looks at serving."""
    catalog = [new_items.new_items, new_items.new_items_release]
    later = [*fine_tuning.daily_assets(settings), *catalog, adaptation.adaptation_report, drift.feature_drift]
    return [*base_assets(settings), *later]


def create_definitions(settings: Settings) -> dg.Definitions:
    """Definitions under these settings."""
    base, assets = base_assets(settings), all_assets(settings)
    workspace = Workspace(settings, Provenance(assets, settings), checks.BLOCKING)
    jobs = {
        BUILD_JOB: (_selection(base), "the full training, from data to released bundles"),
        FINE_TUNING_JOB: (
            _selection(fine_tuning.daily_assets(settings)),
            "a day: its rows and a replay, both models fine-tuned, judged, released",
        ),
        NEW_ITEMS_JOB: (
            _selection([new_items.new_items, new_items.new_items_release]),
            "today's catalog in new versions of index, item table and gateway, without training",
        ),
        DRIFT_JOB: (
            _selection([drift.feature_drift]),
            "what the last hour served against training",
        ),
        ADAPTATION_JOB: (_selection([adaptation.adaptation_report]), "models of each day before, on the day after"),
    }
    defined = {
        name: dg.define_asset_job(name, selection=selection, description=description)
        for name, (selection, description) in jobs.items()
    }
    return dg.Definitions(
        assets=assets,
        asset_checks=checks.ALL,
        jobs=[*defined.values(), full_retrain, *release_jobs.JOBS, *canary_jobs.JOBS, *retention_jobs.JOBS],
        schedules=automation.schedules(settings, defined[FINE_TUNING_JOB], defined[DRIFT_JOB]),
        sensors=automation.sensors(settings, defined[FINE_TUNING_JOB], defined[NEW_ITEMS_JOB]),
        resources={"workspace": workspace},
        executor=step_executor(settings, assets),
    )


def _selection(assets: list[dg.AssetsDefinition]) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(key for asset in assets for key in asset.keys))
