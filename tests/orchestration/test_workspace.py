"""An artifact takes its place whole, with its digest, or not at all."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import dagster as dg

from cascade.settings import Settings
from orchestration.provenance import PROVENANCE_FILE, Provenance, reads
from orchestration.workspace import Workspace

Make = Callable[[list[dg.AssetsDefinition]], Workspace]


@dg.asset(code_version="1", metadata=reads("seed"))
def thing(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]):
    with workspace.making(context) as making:
        (making.folder / "data.txt").write_text("whole")
        making.report(1, 2)
        making.metadata["rows"] = 5
    return making.result()


@dg.asset(code_version="1", metadata=reads("seed"))
def broken(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]):
    with workspace.making(context) as making:
        (making.folder / "data.txt").write_text("half")
        raise RuntimeError("killed in the middle")


@dg.asset(
    code_version="1",
    partitions_def=dg.DailyPartitionsDefinition("2026-01-05", end_date="2026-01-09"),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def daily(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]):
    with workspace.making(context, extend=True) as making:
        for day in context.partition_keys:
            (making.folder / day).write_text(day)
    return making.result()


def materialize(asset: dg.AssetsDefinition, workspace: Workspace, **options: object) -> dg.ExecuteInProcessResult:
    return dg.materialize([asset], resources={"workspace": workspace}, **options)  # type: ignore[arg-type]


def test_artifact_is_current_only_for_what_it_was_made_of(workspace_of: Make, settings: Settings) -> None:
    workspace = workspace_of([thing])
    assert not workspace.is_current("thing")

    result = materialize(thing, workspace)

    assert workspace.is_current("thing")
    assert (workspace.folder("thing") / "data.txt").read_text() == "whole"
    other = settings.model_copy(update={"seed": 4})
    assert not Workspace(other, Provenance([thing], other)).is_current("thing")
    event = result.asset_materializations_for_node("thing")[0]
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == workspace.digest("thing")
    assert event.metadata["rows"].value == 5
    assert event.metadata["peak_memory_mb"].value > 10


def test_failed_making_leaves_the_old_artifact_and_no_litter(workspace_of: Make) -> None:
    workspace = workspace_of([broken])
    old = workspace.folder("broken")
    old.mkdir(parents=True)
    (old / "data.txt").write_text("old")

    result = materialize(broken, workspace, raise_on_error=False)

    assert not result.success
    assert (old / "data.txt").read_text() == "old"
    assert not workspace.is_current("broken")
    assert [path.name for path in workspace.settings.artifacts_dir.iterdir()] == ["broken"]


def test_partitions_add_to_what_is_there(workspace_of: Make) -> None:
    workspace = workspace_of([daily])

    for day in ("2026-01-05", "2026-01-07"):
        materialize(daily, workspace, partition_key=day)

    assert workspace.is_current("daily", ["2026-01-05", "2026-01-07"])
    assert not workspace.is_current("daily", ["2026-01-05", "2026-01-06"])
    assert {path.name for path in workspace.folder("daily").iterdir()} == {
        "2026-01-05",
        "2026-01-07",
        PROVENANCE_FILE,
    }


def test_days_of_the_built_in_shop_are_split_by_time(workspace_of: Make) -> None:
    split = workspace_of([thing]).split()

    assert split.train[0] == date(2026, 1, 5)
    assert max(split.train) < min(split.evaluate) <= max(split.evaluate) < min(split.fine_tune)


def test_truncated_provenance_is_not_trusted(workspace_of: Make, tmp_path: Path) -> None:
    workspace = workspace_of([thing])
    materialize(thing, workspace)
    path = workspace.folder("thing") / PROVENANCE_FILE
    path.write_text(path.read_text()[:20])

    assert not workspace.is_current("thing")
