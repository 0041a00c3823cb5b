"""An hour in which nobody is known any more: seen in the log, by the pipeline and on the worker's metrics."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade.data.shown_lists import shown_lists
from cascade.training.drift import PLACES
from orchestration.assets.drift import read_report
from orchestration.build import prepare_instance
from orchestration.graph import all_assets, create_definitions
from orchestration.jobs import DRIFT_JOB
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace

pytestmark = pytest.mark.timeout(600)

START = 1_768_690_800  # 2026-01-17 23:00 UTC, an hour of which no other test asks
VISITORS = 600


def test_strangers_on_one_device_are_told_from_those_of_training(system: Any) -> None:
    for number in range(VISITORS):
        system.recommend(f"stranger-{number}", timestamp=START + number, device_type="tablet")
    dataset = system.settings.dataset_dir
    seen = waited_for(dataset)
    assert 0.15 * VISITORS < seen.is_sampled.sum() < 0.35 * VISITORS

    settings = system.settings.model_copy(update={"drift_min_visitors": 80})
    run = {"ops": {"feature_drift": {"config": {"end": "2026-01-18T00:00"}}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(settings.dagster_home))
        job = create_definitions(settings).resolve_job_def(DRIFT_JOB)
        result = job.execute_in_process(instance=prepare_instance(settings.dagster_home), run_config=run)

    report = read_report(Workspace(settings, Provenance(all_assets(settings), settings)))
    print(report.summary)
    drifted = {(one.model, one.feature) for one in report.of("drifted")}
    for model in ("retrieval", "ranker"):
        assert {(model, "user_id"), (model, "device_type")} <= drifted
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert "ranker device_type" in str(check.description)
    assert index_on_metrics(system, "device_type") == pytest.approx(
        next(one.psi for one in report.drifts if (one.model, one.feature) == ("ranker", "device_type"))
    )


def waited_for(dataset: Path) -> Any:
    """The lists of the hour, when all of them are written: they wait for their clicks before."""
    limit = time.monotonic() + 180
    while len(seen := shown_lists(dataset, START, START + 3600, PLACES)) < VISITORS:
        assert time.monotonic() < limit, len(seen)
        time.sleep(1)
    return seen


def index_on_metrics(system: Any, feature: str) -> float:
    """What the features worker tells of the ranker."""
    wanted = re.compile(rf'^cascade_feature_psi\{{feature="{feature}",model="ranker"\}} (\S+)$', re.MULTILINE)
    limit = time.monotonic() + 60
    while True:
        page = httpx.get(f"http://127.0.0.1:{system.settings.features_port}/metrics").text
        if found := wanted.search(page):
            return float(found[1])
        assert time.monotonic() < limit, "the worker tells nothing"
        time.sleep(1)
