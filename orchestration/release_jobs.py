"""Jobs that change which version serves: the same steps as `cascade models`, with the run kept in the UI."""

from enum import Enum

import dagster as dg

from cascade.local.refresh import tell
from cascade.store.release import Release, promote, retention, rollback
from orchestration.workspace import Workspace


class ServiceName(Enum):
    """Services that hold a bundle. The names are what a run's configuration spells."""

    retrieval = "retrieval"
    ranker = "ranker"
    gateway = "gateway"


class Promotion(dg.Config):
    """What to promote. version: one of the store, or an alias (`canary`)."""

    service: ServiceName
    version: str


class Rollback(dg.Config):
    """Whose bundle to roll back."""

    service: ServiceName


class Retention(dg.Config):
    """Whose versions to thin out. keep: how many of the newest stay; 0: as the settings say."""

    service: ServiceName
    keep: int = 0


@dg.op(description="Make a version stable; the one before becomes previous.")
def promote_version(context: dg.OpExecutionContext, config: Promotion, workspace: dg.ResourceParam[Workspace]) -> None:
    """Promote, and tell the running service."""
    _finish(context, workspace, promote(workspace.store, config.service.value, config.version))


@dg.op(description="Make the version that served before stable again; the two change places.")
def rollback_version(context: dg.OpExecutionContext, config: Rollback, workspace: dg.ResourceParam[Workspace]) -> None:
    """Roll back, and tell the running service."""
    _finish(context, workspace, rollback(workspace.store, config.service.value))


@dg.op(description="Remove all but the newest versions, and never one that an alias names.")
def retain_versions(context: dg.OpExecutionContext, config: Retention, workspace: dg.ResourceParam[Workspace]) -> None:
    """Remove what is surplus."""
    keep = config.keep or workspace.settings.keep_versions
    removed = retention(workspace.store, config.service.value, keep)
    context.log.info(f"removed {len(removed)} versions of {config.service.value}: {', '.join(removed) or 'none'}")
    context.add_output_metadata({"removed": removed, "kept": workspace.store.versions(config.service.value)})


@dg.job(description="Make a version the one that serves. Configure: service, version.")
def promote_model() -> None:
    """One step."""
    promote_version()


@dg.job(description="Make the version that served before serve again. Configure: service.")
def rollback_model() -> None:
    """One step."""
    rollback_version()


@dg.job(description="Remove surplus versions of a service. Configure: service, keep.")
def retain_models() -> None:
    """One step."""
    retain_versions()


JOBS = [promote_model, rollback_model, retain_models]


def _finish(context: dg.OpExecutionContext, workspace: Workspace, release: Release) -> None:
    """Say what serves now. A running service that refuses the version fails the run."""
    told = tell(workspace.settings, release.service)
    serving = "found at the next look" if told is None else told.version or "unknown"
    context.add_output_metadata(
        {
            "service": release.service,
            "stable": release.stable,
            "previous": release.previous or "none",
            "changed": release.changed,
            "serving": serving,
        }
    )
    if told is not None and told.problem is not None:
        raise dg.Failure(f"{release.service} {release.stable} is stable, but nothing serves it: {told.problem}")
