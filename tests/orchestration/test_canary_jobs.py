"""The canary jobs do what `cascade canary` does, and their runs keep the evidence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cascade.canary.clicks import Clicked
from cascade.canary.evalues import Counts
from cascade.canary.judge import Judge
from cascade.canary.outcomes import Outcomes
from cascade.canary.policy import policy_of
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store import canary as canaries
from orchestration import canary_jobs
from orchestration.graph import create_definitions
from orchestration.workspace import Workspace

Execute = Callable[..., dg.ExecuteInProcessResult]


class Sources:
    """A thousand calls and lists a look; `failing` of the canary's calls fail."""

    def __init__(self, failing: float = 0.0, looks: int | None = None) -> None:
        self._failing = failing
        self._looks = looks

    def look(self) -> tuple[Outcomes, Outcomes]:
        if self._looks is not None:
            self._looks -= 1
            if self._looks < 0:
                raise RuntimeError("the machine is gone")
        return Outcomes(1000, 0, 1000), Outcomes(1000, 1000 * self._failing, 1000)

    def since(self, cursor: str | None, version: str, step: int) -> Clicked:
        return Clicked("0", Counts(1000, 900, 1000, 900))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, state_dir=tmp_path / "state", canary_pause_s=0, canary_look_s=0.001)


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    return ModelStore(settings.model_store_url)


@pytest.fixture
def versions(store: ModelStore) -> tuple[str, str]:
    made = [
        store.write("ranker", lambda folder, text=text: _fill(folder, text), training_days=[date(2026, 1, 5)]).version
        for text in "ab"
    ]
    store.set_alias("ranker", "stable", made[0])
    return made[0], made[1]


def _fill(folder: Path, content: str) -> None:
    (folder / "weights").write_text(content)


@pytest.fixture
def execute(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, workspace_of: Callable[[list[Any]], Workspace]
) -> Execute:
    def run(sources: Sources, version: str = "") -> dg.ExecuteInProcessResult:
        @contextmanager
        def judge_of(settings: Settings, service: str, report: Any) -> Any:
            store = ModelStore(settings.model_store_url)
            yield Judge(store, service, policy_of(settings), sources, sources, report=report)

        monkeypatch.setattr(canary_jobs, "judge_of", judge_of)
        (job,) = (job for job in canary_jobs.JOBS if job.name == "canary_ranker")
        return job.execute_in_process(
            run_config={"ops": {"judge_ranker": {"config": {"version": version}}}},
            resources={"workspace": workspace_of([])},
            raise_on_error=False,
        )

    return run


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (output,) = (event for event in result.all_events if event.event_type_value == "STEP_OUTPUT")
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_a_version_is_promoted_and_the_run_keeps_the_evidence(
    execute: Execute, store: ModelStore, versions: tuple[str, str]
) -> None:
    result = execute(Sources(), versions[1])
    assert result.success
    assert store.alias("ranker", "stable") == versions[1]
    told = metadata(result)
    assert (told["version"], told["state"], told["percent"]) == (versions[1], "promoted", 100.0)
    assert "| errors (calls) |" in told["evidence"]
    assert "data:image/png;base64" in told["evidence_over_time"]


def test_a_version_that_harms_fails_its_run_which_says_why(
    execute: Execute, store: ModelStore, versions: tuple[str, str]
) -> None:
    result = execute(Sources(failing=0.5), versions[1])
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "aborted: errors: " in str(failure.step_failure_data)
    assert store.aliases("ranker") == {"stable": versions[0]}


def test_a_run_that_dies_is_followed_by_one_that_goes_on(
    execute: Execute, store: ModelStore, versions: tuple[str, str]
) -> None:
    assert not execute(Sources(looks=2), versions[1]).success
    canary = canaries.read(store, "ranker")
    assert canary is not None
    assert canary.runs
    assert execute(Sources()).success
    assert store.alias("ranker", "stable") == versions[1]


def test_without_a_version_and_a_canary_there_is_nothing_to_do(execute: Execute, versions: tuple[str, str]) -> None:
    result = execute(Sources())
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "configure the version to try" in str(failure.step_failure_data)


def test_the_ui_has_a_job_for_each_service(settings: Settings) -> None:
    names = {job.name for job in create_definitions(settings).resolve_all_job_defs()}
    assert {"canary_retrieval", "canary_ranker"} <= names
