"""What may be kept no longer goes, every day."""

import dagster as dg

from cascade.privacy.retention import retain
from orchestration.workspace import Workspace

RETENTION_JOB = "retain_data"


@dg.op(description="Remove interactions, impressions and features older than the settings allow.")
def drop_old(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> None:
    """One step; without settings it removes nothing."""
    removed = retain(workspace.settings)
    context.log.info(", ".join(f"{name}: {count}" for name, count in removed.items()))
    context.add_output_metadata(dict(removed))


@dg.job(name=RETENTION_JOB, description="Remove data by age: CASCADE_KEEP_…_DAYS.", executor_def=dg.in_process_executor)
def retain_data() -> None:
    """One step."""
    drop_old()


JOBS = [retain_data]
