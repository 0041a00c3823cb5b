"""Jobs beside the build: a day's fine-tuning, new items, the report, the full retrain."""

import os
import subprocess
import sys

import dagster as dg

from cascade.local.parts import BUNDLE_SERVICES, settings_environment
from cascade.store.release import retention
from orchestration.workspace import Workspace

BUILD_JOB = "build"
FINE_TUNING_JOB = "fine_tuning"
NEW_ITEMS_JOB = "new_items_job"
ADAPTATION_JOB = "adaptation"
DRIFT_JOB = "drift"
RETRAIN_JOB = "full_retrain"


@dg.op(description="all complete days, live ones too, become the base; everything is made from them and released")
def retrain(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> None:
    """Runs the build in a process of its own: it starts from fresh digests, and its run is listed like any other."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestration.build", "--retrain"],
        env={**os.environ, **settings_environment(workspace.settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        lines = []
        for line in process.stdout or ():
            lines.append(line.rstrip())
            context.log.info(lines[-1])
    if process.returncode:
        raise dg.Failure("the retrain failed, and what served serves on: " + " ".join(lines[-5:]))
    # The lineage begins anew, so nothing needs the ancestors of what served before.
    kept = workspace.settings.keep_versions
    removed = {service: retention(workspace.store, service, kept) for service in BUNDLE_SERVICES}
    context.add_output_metadata({"removed_versions": removed})


@dg.job(name=RETRAIN_JOB, executor_def=dg.in_process_executor)
def full_retrain() -> None:
    """Rebuild everything from all complete days, and replace the lineage that the daily loop made."""
    retrain()
