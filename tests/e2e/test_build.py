"""The build as Dagster keeps it, and as it is run again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cascade.settings import Settings
from cascade.store import ModelStore

pytestmark = pytest.mark.timeout(600)


def run_build(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.build"], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dagster_shows_every_asset_with_metadata_and_passed_checks(system: Any) -> None:
    nodes = system.graphql(
        """{ assetNodes { assetKey { path } groupName description partitionKeys jobNames
            assetMaterializations(limit: 1) { metadataEntries { label __typename } }
            assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
                status evaluation { success } } } } } } }""",
    )["assetNodes"]
    for node in nodes:
        assert node["description"], node
        assert node["groupName"] != "default", node
    nodes = [node for node in nodes if "build" in node["jobNames"]]
    by_name = {node["assetKey"]["path"][-1]: node for node in nodes}

    assert len(by_name) == 24
    for name, node in by_name.items():
        labels = {entry["label"] for entry in node["assetMaterializations"][0]["metadataEntries"]}
        assert {"seconds", "processor_seconds", "peak_memory_mb"} <= labels, name
    assert len(by_name["interactions"]["partitionKeys"]) == 6
    for name, picture in {
        "two_tower": "loss",
        "dlrm": "loss",
        "text_embeddings": "map",
        "catalog": "category_mix",
    }.items():
        entries = by_name[name]["assetMaterializations"][0]["metadataEntries"]
        assert {"label": picture, "__typename": "MarkdownMetadataEntry"} in entries
    checks = {
        check["name"]: check["executionForLatestMaterialization"]["status"]
        for node in nodes
        for check in node["assetChecksOrError"].get("checks", [])
    }
    assert set(checks) == {
        "every_day_has_rows",
        "no_leakage_in_training",
        "no_leakage_in_evaluation",
        "index_reaches_recall_target",
        "two_tower_beats_popularity",
        "ranker_auc_above_chance",
    }
    blocking = {name: status for name, status in checks.items() if name.startswith(("every", "no_leakage", "index"))}
    assert set(blocking.values()) == {"SUCCEEDED"}


def test_build_again_makes_nothing(system: Any) -> None:
    assert "up to date" in run_build(system.environment)


def test_build_makes_what_is_missing_and_gets_the_same(system: Any) -> None:
    store = ModelStore(system.settings.model_store_url)
    before = {service: store.alias(service, "stable") for service in ("retrieval", "ranker", "gateway")}
    for asset in ("popularity", "two_tower", "retrieval_bundle"):
        shutil.rmtree(system.settings.artifacts_dir / asset)

    assert "Building 3 of 24 assets" in run_build(system.environment)

    assert {service: store.alias(service, "stable") for service in before} == before


def test_job_runs_from_the_page(system: Any) -> None:
    """What the job's Materialize button sends, for some of its assets: one run over all days."""
    days = [f"2026-01-{day:02}" for day in range(5, 11)]
    mutation = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
        __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
    assets = [{"path": [name]} for name in ("interactions", "popularity", "gateway_bundle")]
    launched = system.graphql(
        mutation, params={"assetSelection": assets, "partitionNames": days, "title": "end to end"}
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    status = "REQUESTED"
    deadline = time.monotonic() + 200
    while status not in ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"):
        assert time.monotonic() < deadline, status
        time.sleep(1)
        status = system.graphql(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
            id=launched["backfillId"],
        )["partitionBackfillOrError"]["status"]
    assert status == "COMPLETED_SUCCESS"


def test_a_shop_of_ones_own_is_built_without_its_truth(system: Any, tmp_path: Path) -> None:
    """No truth/, no pictures, no ages: what is missing is out-of-vocabulary, and there is no oracle."""
    import pyarrow.parquet as pq

    shop = tmp_path / "shop"
    shutil.copytree(system.settings.dataset_dir, shop, ignore=shutil.ignore_patterns("truth", "images"))
    users = pq.read_table(shop / "users.parquet")
    pq.write_table(users.drop_columns(["age"]), shop / "users.parquet")
    items = pq.read_table(shop / "items.parquet")
    pq.write_table(items.drop_columns(["image"]), shop / "items.parquet")
    environment = system.environment | {
        "CASCADE_SHOP": str(shop),
        "CASCADE_STATE_DIR": str(tmp_path / "state"),
        "CASCADE_REDIS_URL": system.settings.redis()[:-1] + "5",
    }

    run_build(environment)

    settings = Settings(_env_file=None, shop=shop, state_dir=tmp_path / "state")
    report = json.loads((settings.artifacts_dir / "evaluation" / "evaluation.json").read_text())
    assert "oracle" not in json.dumps(report["rows"])
    assert ModelStore(settings.model_store_url).alias("ranker", "stable")
    assert "up to date" in run_build(environment)


def test_broken_shop_is_refused_before_any_work(system: Any, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(system.settings.dataset_dir, shop, ignore=shutil.ignore_patterns("truth"))
    (shop / "items.parquet").write_bytes(b"not parquet")
    environment = system.environment | {"CASCADE_SHOP": str(shop), "CASCADE_STATE_DIR": str(tmp_path / "state")}

    done = subprocess.run(
        [sys.executable, "-m", "orchestration.build"], env=environment, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 1
    assert "items.parquet" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "state" / "artifacts" / "training_rows").exists()
