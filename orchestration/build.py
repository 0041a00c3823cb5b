"""`python -m orchestration.build`: make what is missing or out of date, with a bar for each asset.

It runs Dagster's own job in this process, over the same instance that `dagster dev` shows; the UI lists the run with
its metadata, checks and logs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from rich.console import Console

from cascade.data.validation import require_valid
from cascade.errors import CascadeError
from cascade.online.marks import built_digest
from cascade.settings import Settings
from orchestration.assets.fine_tuning import POOL
from orchestration.assets.new_items import catalog_changed
from orchestration.base import base_file, base_of_all_days, fresh_base, record_base, recorded_base
from orchestration.checks import ALL, BLOCKING
from orchestration.graph import BUILD_JOB, base_assets, create_definitions
from orchestration.jobs import NEW_ITEMS_JOB
from orchestration.progress import TerminalReporter, reporting_to
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace, known_days

IN_REDIS = ("online_features", "online_popularity")

RAW = ("catalog", "interactions")
_FORMER_INSTANCE = {"telemetry": {"enabled": False}, "nux": {"enabled": False}}
_INSTANCE = {
    **_FORMER_INSTANCE,
    # days of the daily loop are learned one after another, though Dagster may ask for several at once
    "concurrency": {"pools": {"default_limit": 1, "granularity": "run"}},
}


def prepare_instance(home: Path) -> dg.DagsterInstance:
    """Dagster's instance in `home`: telemetry off, one run of the daily loop at a time."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists() or yaml.safe_load(config.read_text()) == _FORMER_INSTANCE:
        config.write_text(yaml.safe_dump(_INSTANCE))
    os.environ["DAGSTER_HOME"] = str(home.absolute())
    instance = dg.DagsterInstance.get()
    # Dagster learns of a pool when its first step asks for a slot. Several days asked for before that would start
    # together, and each would go on from the base instead of from the day before.
    instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)
    return instance


def outdated(workspace: Workspace, provenance: Provenance) -> list[dg.AssetKey]:
    """Assets to make, inputs first: not whole, made of something else, or gone from Redis."""
    days = [day.isoformat() for day in known_days(workspace.settings)]
    redis_url = workspace.settings.redis()
    chosen: list[dg.AssetKey] = []
    for key in provenance.ordered():
        name = key.to_user_string()
        current = workspace.is_current(name, days if name == "interactions" else ())
        if current and name in IN_REDIS:
            current = built_digest(redis_url, name) == workspace.digest(name)
        if not current:
            chosen.append(key)
    return chosen


def unchecked(workspace: Workspace, making: Collection[dg.AssetKey]) -> list[dg.AssetCheckKey]:
    """Blocking checks of artifacts that stay and are not known to have passed: a run ended before, or with, them."""
    staying = [name for name in BLOCKING if dg.AssetKey(name) not in making]
    return [dg.AssetCheckKey(dg.AssetKey(name), check) for name in staying for check in workspace.unpassed(name)]


def build(settings: Settings, console: Console) -> bool:
    """Make what is outdated; returns whether all of it, and every blocking check, went well."""
    if settings.own_shop:
        require_valid(settings.dataset_dir)
    instance = prepare_instance(settings.dagster_home)
    if recorded_base(settings) is None or not _workspace(settings).is_current("catalog"):
        # a shop that is built anew is split anew
        record_base(settings, fresh_base(settings))
    workspace = _workspace(settings)
    chosen = outdated(workspace, workspace.provenance)
    doubtful = unchecked(workspace, chosen)
    done = True
    if doubtful:
        console.print(f"Checking first what is whole and unchecked: {', '.join(check.name for check in doubtful)}.")
    if chosen:
        console.print(f"Building {len(chosen)} of {len(workspace.provenance.ordered())} assets.")
    if chosen or doubtful:
        done = _run(settings, instance, console, BUILD_JOB, chosen, doubtful)
    changed = settings.own_shop and done and catalog_changed(_workspace(settings))
    if changed:
        console.print("The catalog has changed: taking its new items in.")
        done = _run(settings, instance, console, NEW_ITEMS_JOB, None)
    if done and not chosen and not changed:
        console.print("Data, models and index are up to date.")
    return done


def retrain(settings: Settings, console: Console) -> bool:
    """Make everything anew from all complete days, those of live traffic too; the base becomes these days.

    Where it fails the former base stays, and what served serves on.
    """
    if settings.own_shop:
        require_valid(settings.dataset_dir)
    instance = prepare_instance(settings.dagster_home)
    record = base_file(settings)
    before = record.read_bytes() if record.exists() else None
    base = base_of_all_days(settings)
    record_base(settings, base)
    done = False
    try:
        console.print(
            f"Training on {len(base.split.train)} days to {base.split.train[-1]}, evaluating on "
            f"{', '.join(map(str, base.split.evaluate))}."
        )
        workspace = _workspace(settings)
        keys = workspace.provenance.ordered()
        if not settings.own_shop:
            # the built-in shop is there; to write it again would change nothing
            keys = [key for key in keys if key.to_user_string() not in RAW]
        done = _run(settings, instance, console, BUILD_JOB, keys, unchecked(workspace, keys))
    finally:
        if not done:
            record.unlink()
            if before is not None:
                record.write_bytes(before)
    return done


def _workspace(settings: Settings) -> Workspace:
    """What the full training makes, with digests as of now."""
    return Workspace(settings, Provenance(base_assets(settings), settings), BLOCKING)


def _run(
    settings: Settings,
    instance: dg.DagsterInstance,
    console: Console,
    job: str,
    chosen: list[dg.AssetKey] | None,
    also: Sequence[dg.AssetCheckKey] = (),
) -> bool:
    """Run a job in this process, tell how its assets and checks went, and whether all went well.

    chosen: None for all assets of the job; also: checks of assets that are not among them, and that hold them back
    """
    days = known_days(settings)
    over_days = {
        ASSET_PARTITION_RANGE_START_TAG: days[0].isoformat(),
        ASSET_PARTITION_RANGE_END_TAG: days[-1].isoformat(),
    }
    partitioned = chosen is not None and dg.AssetKey("interactions") in chosen
    terminal = TerminalReporter(console)
    with reporting_to(terminal), terminal.live() if console.is_terminal else nullcontext():
        definition = create_definitions(settings).resolve_job_def(job)
        if also:
            definition = _with_checks(definition, chosen or [], also)
        result = definition.execute_in_process(
            instance=instance,
            asset_selection=None if also else chosen,
            tags=over_days if partitioned else None,
            raise_on_error=False,
        )
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            values = ", ".join(f"{name} {value.value}" for name, value in check.metadata.items())
            console.print(f"[yellow]Check {check.check_name} of {check.asset_key.to_user_string()} failed: {values}")
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = error.cause if error is not None and error.cause is not None else error
            console.print(f"[red]{event.step_key} failed: {cause.message.strip() if cause else 'no reason given'}")
    return bool(result.success)


def _with_checks(
    job: dg.JobDefinition, chosen: list[dg.AssetKey], also: Sequence[dg.AssetCheckKey]
) -> dg.JobDefinition:
    """The job's part that makes these assets and runs their checks, and the other checks besides.

    Within it Dagster holds back what depends on an asset for its blocking checks, though the asset itself is not made.
    """
    own = {key for definition in ALL for key in definition.check_keys if key.asset_key in chosen}
    return job.get_subset(asset_selection=set(chosen), asset_check_selection=own | set(also))


@contextmanager
def own_console(log: Path) -> Iterator[Console]:
    """A console on the terminal, while all else that is printed goes to the log.

    Dagster, Feast and the encoders write to both streams; between them no progress bar survives.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    with log.open("ab") as file, os.fdopen(os.dup(1), "w") as terminal:
        try:
            for stream in kept:
                os.dup2(file.fileno(), stream)
            yield Console(file=terminal)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in kept.items():
                os.dup2(copy, stream)
                os.close(copy)


def main() -> int:
    """Build under the settings of the environment; `--retrain`: everything, from all complete days."""
    arguments = sys.argv[1:]
    if arguments not in ([], ["--retrain"]):
        print("usage: python -m orchestration.build [--retrain]", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore", dg.BetaWarning)
    settings = Settings()
    log = settings.run_dir / "build.log"
    with own_console(log) as console:
        try:
            done = retrain(settings, console) if arguments else build(settings, console)
        except CascadeError as error:
            console.print(f"[red]{error}")
            done = False
        if not done:
            console.print(f"The whole log: {log}")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
