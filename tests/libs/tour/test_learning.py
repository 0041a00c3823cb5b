"""Which day is learned next, from what the versions say; and how Dagster is asked."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.tour.dagster import Dagster, Run
from cascade.tour.errors import DagsterSilent
from cascade.tour.learning import Day, next_day

DAYS = [date(2026, 1, day) for day in range(5, 11)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A shop of six days with a row more each."""
    for number, day in enumerate(DAYS, start=1):
        folder = tmp_path / "state" / "shop" / "interactions" / f"date={day}"
        folder.mkdir(parents=True)
        rows = {"user_id": ["u"] * number, "item_id": ["i"] * number, "timestamp": [1] * number}
        pq.write_table(pa.table(rows), folder / "part.parquet")
    return Settings(_env_file=None, state_dir=tmp_path / "state")


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    """With the full training of three days and an evaluation of the fourth."""
    store = ModelStore(settings.model_store_url)
    write(store, DAYS[:3], evaluated=[DAYS[3]])
    return store


def write(
    store: ModelStore, trained: list[date], *, evaluated: list[date] | None = None, gates: dict[str, bool] | None = None
) -> None:
    store.write(
        "ranker",
        lambda folder: (folder / "model.bin").write_text(str(trained)),
        training_days=trained,
        evaluation_days=evaluated or [],
        gates=gates,
    )


def test_days_follow_each_other_and_the_last_is_learned_again(settings: Settings, store: ModelStore) -> None:
    assert next_day(settings, store) == Day(DAYS[4], 5, again=False)
    write(store, DAYS[:5], gates={"passed": False})
    assert next_day(settings, store) == Day(DAYS[5], 6, again=False)
    write(store, DAYS, gates={"passed": True})
    assert next_day(settings, store) == Day(DAYS[5], 6, again=True)


def test_where_no_day_is_left_out_there_is_nothing_to_learn(settings: Settings, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "other")
    write(store, DAYS[:5], evaluated=DAYS[5:])
    assert next_day(settings, store) is None


def page(answers: dict[str, object]) -> tuple[Dagster, list[dict[str, object]]]:
    asked: list[dict[str, object]] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        name = next(name for name in answers if name in str(asked[-1]["query"]))
        return httpx.Response(200, json=answers[name])

    client = httpx.Client(base_url="http://dagster", transport=httpx.MockTransport(reply))
    return Dagster("http://dagster", client), asked


def test_a_partition_is_launched_and_followed() -> None:
    nodes = [{"name": "repository", "location": {"name": "here"}}]
    steps = [
        {"stepKey": "second", "status": "IN_PROGRESS", "startTime": 2.0},
        {"stepKey": "never", "status": None, "startTime": None},
        {"stepKey": "first", "status": "SUCCESS", "startTime": 1.0},
    ]
    dagster, asked = page(
        {
            "repositoriesOrError": {"data": {"repositoriesOrError": {"nodes": nodes}}},
            "launchRun": {"data": {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "r1"}}}},
            "runOrError": {"data": {"runOrError": {"__typename": "Run", "status": "STARTED", "stepStats": steps}}},
        }
    )
    assert dagster.launch("fine_tuning", "2026-01-09") == "r1"
    params = asked[1]["variables"]["params"]  # type: ignore[index]
    assert params["selector"]["pipelineName"] == "fine_tuning"
    assert params["executionMetadata"]["tags"] == [{"key": "dagster/partition", "value": "2026-01-09"}]
    found = dagster.run("r1")
    assert found == Run("r1", "STARTED", ["first", "second"])
    assert not found.ended


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"repositories": {"data": {"repositoriesOrError": {}}}}, "has loaded no jobs"),
        ({"repositories": {"errors": [{"message": "broken"}]}}, "refuses: broken"),
    ],
)
def test_a_page_that_cannot_launch_says_so(answers: dict[str, object], sentence: str) -> None:
    with pytest.raises(DagsterSilent, match=sentence):
        page(answers)[0].launch("fine_tuning", "2026-01-09")


def test_a_page_that_is_down_says_how_to_start_it() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = httpx.Client(base_url="http://dagster", transport=httpx.MockTransport(refuse))
    with pytest.raises(DagsterSilent, match="`cascade up` without --no-dagster"):
        Dagster("http://dagster", client).launch("fine_tuning", "2026-01-09")
