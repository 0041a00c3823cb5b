"""The release jobs do what `cascade models` does, and their runs say so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cascade.settings import Settings
from cascade.store import ModelStore
from orchestration import release_jobs
from orchestration.graph import create_definitions
from orchestration.workspace import Workspace

Execute = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    return ModelStore(settings.model_store_url)


@pytest.fixture
def execute(settings: Settings, workspace_of: Callable[[list[Any]], Workspace]) -> Execute:
    def run(job: dg.JobDefinition, **config: Any) -> dg.ExecuteInProcessResult:
        (op,) = job.nodes
        return job.execute_in_process(
            run_config={"ops": {op.name: {"config": config}}},
            resources={"workspace": workspace_of([])},
            raise_on_error=False,
        )

    return run


def write(store: ModelStore, content: str) -> str:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text(content)

    return store.write("ranker", fill, training_days=[date(2026, 1, 5)]).version


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (output,) = (event for event in result.all_events if event.event_type_value == "STEP_OUTPUT")
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_promote_roll_back_and_retain(execute: Execute, store: ModelStore) -> None:
    first, second = write(store, "a"), write(store, "b")
    assert execute(release_jobs.promote_model, service="ranker", version=first).success
    assert store.alias("ranker", "stable") == first
    promoted = execute(release_jobs.promote_model, service="ranker", version=second)
    assert metadata(promoted) == {
        "service": "ranker",
        "stable": second,
        "previous": first,
        "changed": True,
        "serving": "found at the next look",
    }
    assert execute(release_jobs.rollback_model, service="ranker").success
    assert store.aliases("ranker") == {"previous": second, "stable": first}

    third = write(store, "c")
    fourth = write(store, "d")
    retained = execute(release_jobs.retain_models, service="ranker", keep=1)
    assert metadata(retained)["removed"] == [third]
    assert store.versions("ranker") == sorted([first, second, fourth])
    assert metadata(execute(release_jobs.retain_models, service="ranker"))["removed"] == []


def test_a_step_that_cannot_be_done_fails_its_run(execute: Execute, store: ModelStore) -> None:
    only = write(store, "a")
    assert not execute(release_jobs.promote_model, service="ranker", version="20250101-none").success
    assert execute(release_jobs.promote_model, service="ranker", version=only).success
    assert not execute(release_jobs.rollback_model, service="ranker").success
    assert store.aliases("ranker") == {"stable": only}


def test_a_service_that_refuses_fails_the_run_and_says_why(
    execute: Execute, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = release_jobs.tell.__globals__["Told"]("ranker", "old", "it does not run")
    monkeypatch.setattr(release_jobs, "tell", lambda settings, service: told)
    result = execute(release_jobs.promote_model, service="ranker", version=write(store, "a"))
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "it does not run" in str(failure.step_failure_data)


def test_the_ui_has_the_jobs(settings: Settings) -> None:
    names = {job.name for job in create_definitions(settings).resolve_all_job_defs()}
    assert {"build", "promote_model", "rollback_model", "retain_models"} <= names
