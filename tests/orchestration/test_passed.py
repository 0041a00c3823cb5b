"""What a blocking check has passed is noted, for that very artifact; nothing is built on one without its notes."""

from pathlib import Path

import dagster as dg
import pytest

from cascade.settings import Settings
from orchestration import checks, passed
from orchestration.build import unchecked
from orchestration.checks import blocking
from orchestration.graph import base_assets
from orchestration.provenance import PROVENANCE_FILE, Provenance
from orchestration.workspace import Workspace


@dg.asset(code_version="1")
def rows(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]):
    with workspace.making(context) as making:
        (making.folder / "rows.txt").write_text("1 2 3")
    return making.result()


@dg.asset(code_version="1", deps=[rows])
def model(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]):
    with workspace.making(context) as making:
        (making.folder / "model.txt").write_text("6")
    return making.result()


def check_that(passes: bool) -> dg.AssetChecksDefinition:
    def are_sane(workspace: Workspace) -> dg.AssetCheckResult:
        """Rows are rows."""
        return dg.AssetCheckResult(passed=passes)

    return blocking(rows)(are_sane)


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    return Workspace(settings, Provenance([rows, model], settings), {"rows": ("are_sane",)})


def run(workspace: Workspace, *definitions: dg.AssetsDefinition | dg.AssetChecksDefinition) -> bool:
    resources = {"workspace": workspace}
    return dg.materialize(list(definitions), resources=resources, raise_on_error=False).success  # type: ignore[arg-type]


def check_again(workspace: Workspace, passes: bool) -> bool:
    check = check_that(passes)
    result = dg.materialize(
        [rows, check],
        resources={"workspace": workspace},
        selection=dg.AssetSelection.checks(check),
        raise_on_error=False,
    )
    return result.success


def test_a_check_that_passes_is_noted(workspace: Workspace) -> None:
    assert workspace.unpassed("rows") == ["are_sane"]
    assert run(workspace, rows, check_that(True), model)
    assert workspace.unpassed("rows") == []
    assert workspace.unpassed("model") == []
    assert workspace.is_current("model")


def test_nothing_is_built_on_what_was_not_checked(workspace: Workspace) -> None:
    assert run(workspace, rows)  # and here the run was killed
    assert not run(workspace, model)
    assert not workspace.folder("model").exists()


def test_nothing_is_built_on_what_failed_its_check_in_an_earlier_run(workspace: Workspace) -> None:
    assert run(workspace, rows, check_that(True))
    assert not check_again(workspace, False)
    assert not run(workspace, model)
    assert check_again(workspace, True)
    assert run(workspace, model)


def test_a_note_says_nothing_of_the_artifact_that_took_the_place(workspace: Workspace) -> None:
    assert run(workspace, rows, check_that(True))
    artifact, before = workspace.folder("rows"), passed.seal(workspace.folder("rows"))
    assert run(workspace, rows)
    assert passed.seal(artifact) != before
    passed.note(artifact, "are_sane", before)  # of a check that began before
    assert workspace.unpassed("rows") == ["are_sane"]


def test_what_is_not_there_has_passed_nothing(tmp_path: Path) -> None:
    assert passed.seal(tmp_path / "nothing") is None
    assert passed.missing(tmp_path / "nothing", ["one", "two"]) == ["one", "two"]
    passed.note(tmp_path / "nothing", "one", None)
    assert passed.missing(tmp_path / "nothing", ()) == []


def test_a_build_asks_for_the_checks_of_what_stays(settings: Settings) -> None:
    workspace = Workspace(settings, Provenance(base_assets(settings), settings), checks.BLOCKING)
    for asset, names in checks.BLOCKING.items():
        artifact = workspace.folder(asset)
        artifact.mkdir(parents=True)
        (artifact / PROVENANCE_FILE).write_text("{}")
        for name in names:
            passed.note(artifact, name, passed.seal(artifact))
    assert unchecked(workspace, ()) == []
    passed.note(workspace.folder("candidate_index"), "index_reaches_recall_target", None)
    wanted = dg.AssetCheckKey(dg.AssetKey("candidate_index"), "index_reaches_recall_target")
    assert unchecked(workspace, ()) == [wanted]
    assert unchecked(workspace, [dg.AssetKey("candidate_index")]) == []  # made anew, with its checks


def test_what_the_data_and_the_index_must_hold_is_blocking() -> None:
    assert checks.BLOCKING == {
        "interactions": ("every_day_has_rows",),
        "training_rows": ("no_leakage_in_training",),
        "evaluation_rows": ("no_leakage_in_evaluation",),
        "candidate_index": ("index_reaches_recall_target",),
    }
