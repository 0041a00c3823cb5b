"""`cascade models`: what it shows, what it changes, what it says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cascade.cli import app
from cascade.local import refresh
from cascade.local.refresh import Told
from cascade.store import ModelStore

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["models", *map(str, arguments)])


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state" / "models")


def write(store: ModelStore, content: str, parent: str | None = None) -> str:
    return store.write(
        "ranker",
        lambda folder: _fill(folder, content),
        training_days=[date(2026, 1, 5), date(2026, 1, 9)],
        evaluation_days=[date(2026, 1, 10)],
        parent=parent,
        lineage={"items": "abcdef"},
        metrics={"two_tower_recall_at_100": 0.6, "ranker_auc": 0.7125, "cascade_ndcg_at_10": 0.25},
    ).version


def _fill(folder: Path, content: str) -> None:
    (folder / "weights").write_text(content)


def test_each_command_explains_itself_with_an_example(run: Run) -> None:
    listed = run("--help").output
    for command in ("list", "show", "promote", "rollback", "retain"):
        assert command in listed
        assert f"Example: cascade models {command}" in run(command, "--help").output


def test_a_promotion_and_a_rollback(run: Run, store: ModelStore) -> None:
    first = write(store, "a")
    second = write(store, "b", parent=first)
    assert f"ranker {first} is stable" in run("promote", "ranker", first).output

    promoted = run("promote", "ranker", second)
    assert promoted.exit_code == 0
    assert f"ranker {second} is stable; before it: {first}" in promoted.output
    assert "No local run could be told" in promoted.output
    assert "was stable already" in run("promote", "ranker", "stable").output

    back = run("rollback", "ranker")
    assert f"ranker {first} is stable; before it: {second}" in back.output
    assert store.aliases("ranker") == {"previous": second, "stable": first}


def test_versions_are_listed_newest_first_with_aliases_and_metrics(run: Run, store: ModelStore) -> None:
    assert "none yet" in run("list").output
    first = write(store, "a")
    second = write(store, "b", parent=first)
    run("promote", "ranker", first)
    run("promote", "ranker", second)
    output = run("list", "ranker").output
    lines = [line.strip() for line in output.splitlines()]
    (newest,) = (line for line in lines if line.startswith(second))
    (older,) = (line for line in lines if line.startswith(first))
    assert lines.index(newest) < lines.index(older)
    assert "stable" in newest
    assert first in newest  # its parent
    assert "previous" in older
    assert "2: 01-05 to 01-09" in newest
    assert "auc 0.713, ndcg@10 0.250" in newest
    assert "gateway" not in output
    assert "gateway" in run("list").output


def test_an_unreadable_version_is_listed_as_such(run: Run, store: ModelStore, tmp_path: Path) -> None:
    version = write(store, "a")
    (tmp_path / "state" / "models" / "ranker" / version / "manifest.json").write_text("{")
    assert "refused: BundleCorrupt" in run("list", "ranker").output


def test_one_version_is_shown_and_verified(run: Run, store: ModelStore, tmp_path: Path) -> None:
    version = write(store, "a")
    run("promote", "ranker", version)
    shown = run("show", "ranker")
    for part in (version, "stable", "2026-01-10", "0.7125", "abcdef", "1 files, all as they were written"):
        assert part in shown.output
    (tmp_path / "state" / "models" / "ranker" / version / "weights").write_text("altered")
    harmed = run("show", "ranker", version)
    assert harmed.exit_code == 1
    assert "altered weights" in harmed.output


def test_retention_removes_the_surplus(run: Run, store: ModelStore) -> None:
    versions = [write(store, text) for text in "abcd"]
    run("promote", "ranker", versions[0])
    output = run("retain", "ranker", "--keep", 1).output
    left = store.versions("ranker")
    assert versions[0] in left
    assert len(left) in (1, 2)  # the one made last may be the stable one
    assert f"{4 - len(left)} versions removed" in output
    assert run("retain", "ranker", "--keep", 0).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rollback", "ranker"), "no version of 'ranker' served before"),
        (("promote", "ranker", "20250101-none"), "no bundle '20250101-none'"),
        (("promote", "ranker", "../x"), "cannot name a service, version or alias"),
        (("show", "ranker"), "no bundle 'stable'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert run("list", "filter").exit_code == 2


@pytest.mark.parametrize(
    ("serves", "problem", "says", "code"),
    [
        (None, None, "The running ranker serves it", 0),
        ("20250101-old", "it was altered [bold]", "serves 20250101-old: it was altered [bold]", 1),
        ("", "it gave no answer", "serves no version known: it gave no answer", 1),
    ],
)
def test_the_running_service_is_told_and_its_answer_shown(
    run: Run,
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    serves: str | None,
    problem: str | None,
    says: str,
    code: int,
) -> None:
    version = write(store, "a")
    told = Told("ranker", version if serves is None else serves or None, problem)
    monkeypatch.setattr(refresh, "tell", lambda settings, service: told)
    result = run("promote", "ranker", version)
    assert says in result.output
    assert result.exit_code == code
