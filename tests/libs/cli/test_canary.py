"""`cascade canary`: what it starts, shows and ends, and what it says when it cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cascade.canary import record as records
from cascade.canary import wiring
from cascade.canary.evalues import Counts
from cascade.canary.judge import Ending
from cascade.canary.outcomes import Outcomes
from cascade.canary.policy import Policy
from cascade.cli import app
from cascade.store import ModelStore
from cascade.store import canary as canaries

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["canary", *map(str, arguments)])


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state" / "models")


@pytest.fixture
def versions(store: ModelStore) -> tuple[str, str]:
    """The stable one, and a newer one."""
    made = [
        store.write("ranker", lambda folder, text=text: _fill(folder, text), training_days=[date(2026, 1, 5)]).version
        for text in "ab"
    ]
    store.set_alias("ranker", "stable", made[0])
    return made[0], made[1]


def _fill(folder: Path, content: str) -> None:
    (folder / "weights").write_text(content)


def test_each_command_explains_itself_with_an_example(run: Run) -> None:
    listed = run("--help").output
    for command in ("start", "status", "judge", "promote", "abort"):
        assert command in listed
        assert f"Example: cascade canary {command}" in run(command, "--help").output


def test_it_is_started_shown_and_aborted(run: Run, store: ModelStore, versions: tuple[str, str]) -> None:
    _, new = versions
    assert "there was no canary yet" in run("status", "ranker").output
    started = run("start", "ranker", "--no-judge")  # the newest
    assert f"ranker {new} has 1 % of the users" in started.output
    assert "canary_ranker" in started.output
    assert store.alias("ranker", "canary") == new
    assert f"ranker {new} has 1 % of the users" in run("status").output

    aborted = run("abort", "ranker", "--reason", "the pictures are wrong")
    assert f"ranker {new} was aborted: the pictures are wrong" in aborted.output
    assert store.alias("ranker", "canary") is None
    assert "was aborted: the pictures are wrong" in run("status", "ranker").output


def test_a_promotion_by_hand(run: Run, store: ModelStore, versions: tuple[str, str]) -> None:
    old, new = versions
    run("start", "ranker", new, "--no-judge")
    assert f"ranker {new} is stable; before it: {old}" in run("promote", "ranker").output
    assert store.aliases("ranker") == {"previous": old, "stable": new}


def test_status_tells_the_evidence_and_what_is_lacking(run: Run, store: ModelStore, versions: tuple[str, str]) -> None:
    run("start", "ranker", "--no-judge")
    canary = canaries.read(store, "ranker")
    assert canary is not None
    record = records.begun(canary, "me", time.time(), Policy(), None)
    outcomes = Outcomes(1000, 2, 1000, 0, 0, {"0.01": 990, "0.025": 1000, "+Inf": 1000}), Outcomes(40, 1, 40)
    record = records.seen(record, outcomes, Counts(300, 240, 20, 15), Policy(), time.time())
    records.write(store, "ranker", replace(record, trouble="Redis was away"))
    shown = run("status", "ranker").output
    for part in ("2.50% of 40", "0.20% of 1,000", "25.00% of 20", "20.00% of 300", "at least 95% of stable's"):
        assert part in shown
    assert "40 of 500 calls to the canary" in shown
    assert "the last look saw nothing: Redis was away" in shown


@pytest.mark.parametrize(("state", "code"), [("promoted", 0), ("aborted", 1), ("held", 1)])
def test_judging_ends_with_what_became_of_it(
    run: Run, store: ModelStore, versions: tuple[str, str], monkeypatch: pytest.MonkeyPatch, state: Any, code: int
) -> None:
    class Judge:
        def run(self) -> Ending:
            canary = canaries.read(store, "ranker")
            assert canary is not None
            record = records.begun(canary, "me", time.time(), Policy(), None)
            return Ending(state, "as it had to be", canary, record)

    @contextmanager
    def judge_of(*_: object) -> Any:
        yield Judge()

    monkeypatch.setattr(wiring, "judge_of", judge_of)
    result = run("start", "ranker")
    assert f"is {state}: as it had to be" in result.output
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("promote", "ranker"), "no canary of 'ranker' runs"),
        (("abort", "retrieval"), "no canary of 'retrieval' runs"),
        (("judge", "ranker"), "no canary of 'ranker' runs"),
        (("start", "ranker", "20250101-none"), "no bundle '20250101-none'"),
        (("start", "retrieval"), "the newest version of retrieval is none, which is no candidate"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Run, versions: tuple[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert sentence in result.output.replace("\n", " ")
    assert run("start", "gateway").exit_code == 2
