"""Jobs that judge a model's canary, one a service: they do what `cascade canary` does, and keep the evidence in the UI.

A run that is killed leaves the canary at its share and the evidence in the model store: run the job again, and it goes
on from there.
"""

from typing import Any

import dagster as dg

from cascade.canary import record as records
from cascade.canary.judge import Ending
from cascade.canary.policy import Policy, policy_of
from cascade.canary.record import Record
from cascade.canary.table import COLUMNS, alarm_share, rows
from cascade.canary.wiring import judge_of, tell_both
from cascade.store import canary as canaries
from cascade.store.canary import CANARIED, Canary
from orchestration import plots
from orchestration.workspace import Workspace


class CanaryConfig(dg.Config):
    """What to try. version: one of the store; empty: judge the canary that runs already."""

    version: str = ""


def canary_op(service: str) -> dg.OpDefinition:
    """The one step of a service's job."""

    @dg.op(
        name=f"judge_{service}",
        description=f"Lead a version of {service} from few users to all, or back: see docs/canary.md.",
    )
    def judge(context: dg.OpExecutionContext, config: CanaryConfig, workspace: dg.ResourceParam[Workspace]) -> None:
        _begin(context, workspace, service, config.version)
        told = _Told(context)
        with judge_of(workspace.settings, service, told.look) as judging:
            ending = judging.run()
        metadata = evidence(ending, policy_of(workspace.settings))
        if ending.state != "promoted":
            raise dg.Failure(f"{ending.state}: {ending.reason}", metadata=metadata, allow_retries=False)
        context.add_output_metadata(metadata)

    return judge


def canary_job(service: str) -> dg.JobDefinition:
    """`canary_retrieval` or `canary_ranker`."""
    step = canary_op(service)

    @dg.job(
        name=f"canary_{service}",
        description=f"Try a version of {service} on few users, then more; back if it is worse. Configure: version.",
        executor_def=dg.in_process_executor,
    )
    def judged() -> None:
        step()

    return judged


JOBS = [canary_job(service) for service in CANARIED]


class _Told:
    """Logs a line when the canary's share is another one, and now and then."""

    def __init__(self, context: dg.OpExecutionContext) -> None:
        self._context = context
        self._looks = 0
        self._percent = 0.0

    def look(self, canary: Canary, record: Record) -> None:
        if canary.percent != self._percent or self._looks % 30 == 0:
            told = "; ".join(record.sentence(signal) for signal in record.tests)
            self._context.log.info(f"{canary.version} at {canary.percent:g} % of the users: {told}")
        self._looks += 1
        self._percent = canary.percent


def _begin(context: dg.OpExecutionContext, workspace: Workspace, service: str, version: str) -> None:
    """Start the canary, unless it runs already."""
    store = workspace.store
    before = canaries.read(store, service)
    if before is not None and before.runs and version in ("", before.version):
        known = records.read(store, service)
        looks = len(known.looks) if known is not None and known.is_of(before) else 0
        context.log.info(f"{before.version} has {before.percent:g} % of the users; {looks} looks are known")
        return
    if not version:
        raise dg.Failure(f"no canary of {service} runs; configure the version to try", allow_retries=False)
    canaries.start(store, service, version, workspace.settings.canary_steps[0])
    tell_both(workspace.settings, service)


def evidence(ending: Ending, policy: Policy) -> dict[str, Any]:
    """Metadata of a run: the last step's table, and how the evidence grew over all of them."""
    record = ending.record
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows(record, policy)]
    return {
        "version": record.version,
        "state": ending.state,
        "reason": ending.reason,
        "percent": record.percent,
        "evidence": dg.MetadataValue.md("\n".join(lines)),
        "evidence_over_time": _plot(record, policy),
    }


def _plot(record: Record, policy: Policy) -> dg.MarkdownMetadataValue:
    start = record.looks[0].at if record.looks else 0.0
    names = list(dict.fromkeys(signal for look in record.looks for signal in look.evidence))
    series: dict[str, tuple[list[float], list[float]]] = {}
    for name in names:
        seen = [look for look in record.looks if name in look.evidence]
        series[name] = (
            [(look.at - start) / 60 for look in seen],
            [alarm_share(look.evidence[name], policy) for look in seen],
        )
    return plots.curves(series, "evidence that it is worse (1: an alarm); each step begins anew", "minutes")
