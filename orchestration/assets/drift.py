"""Every hour: what was served against what the models that serve were trained on."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from redis import Redis

from cascade.data.shown_lists import ShownLists, shown_lists
from cascade.drift.judge import Observed, judge
from cascade.drift.reference import Reference
from cascade.drift.report import Drift, DriftReport
from cascade.online.drift import write_drift
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.store.errors import BundleNotFound
from cascade.store.model_store import STABLE
from orchestration import plots
from orchestration.assets.release import ranker_bundle, retrieval_bundle
from orchestration.provenance import reads
from orchestration.workspace import Workspace

REPORT = "drift.json"
MODELS = ("retrieval", "ranker")


class DriftWindow(dg.Config):
    """Which hours. end: the hour before which the window ends, such as `2026-01-12T09:00`, UTC; empty: this one."""

    end: str = ""


@dg.asset(
    group_name="online",
    code_version="1",
    deps=[retrieval_bundle, ranker_bundle],
    metadata=reads("drift_hours", "drift_min_visitors", "redis_url", "model_store"),
    kinds={"numpy", "redis"},
)
def feature_drift(
    context: dg.AssetExecutionContext, config: DriftWindow, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Population stability index of each feature and score of the stable bundles, over the lists of the last hour."""
    settings = workspace.settings
    end = end_of(config.end)
    start = end - timedelta(hours=settings.drift_hours)
    with workspace.making(context, made_of={"end": end.isoformat()}) as making:
        report = look(workspace, int(start.timestamp()), int(end.timestamp()))
        text = report.to_json()
        (making.folder / REPORT).write_text(text, encoding="utf-8")
        with Redis.from_url(settings.redis()) as client:
            write_drift(client, report)
        making.metadata |= {
            "summary": report.summary,
            "from": start.isoformat(),
            "until": end.isoformat(),
            "dagster/row_count": max(report.visitors.values(), default=0),
            "highest_psi": max((one.psi or 0.0 for one in report.drifts if one.judged), default=0.0),
            "features": dg.MetadataValue.md(_table(report)),
            **shown(report),
        }
    return making.result()


def end_of(text: str, now: datetime | None = None) -> datetime:
    """The hour that a window ends with, UTC. Raises Failure on text that is none."""
    try:
        moment = datetime.fromisoformat(text) if text else now or datetime.now(UTC)
    except ValueError as error:
        raise dg.Failure(f"{text!r} is no moment; give an hour such as 2026-01-12T09:00 (UTC)") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(minute=0, second=0, microsecond=0)


def read_report(workspace: Workspace) -> DriftReport:
    """The latest one."""
    return DriftReport.from_json((workspace.folder("feature_drift") / REPORT).read_bytes())


def look(workspace: Workspace, start: int, end: int) -> DriftReport:
    """Both models over a window, UTC seconds."""
    from cascade.training.drift import PLACES

    lists = shown_lists(workspace.settings.dataset_dir, start, end, PLACES)
    drifts: list[Drift] = []
    versions: dict[str, str] = {}
    counts: dict[str, int] = {}
    notes: list[str] = []
    for model in MODELS:
        try:
            bundle = workspace.store.bundle(model, STABLE)
        except BundleNotFound:
            notes.append(f"{model} has no stable bundle")
            continue
        versions[model] = bundle.version
        reference = Reference.load(bundle.path)
        if reference is None:
            notes.append(f"{model} {bundle.version} has no reference: it was made before there were any")
            continue
        observed, counts[model] = _observed(workspace, model, bundle.version, lists)
        drifts += judge(model, reference, observed, workspace.settings.drift_min_visitors)
    return DriftReport(start, end, workspace.settings.drift_min_visitors, tuple(drifts), versions, counts, tuple(notes))


def _observed(workspace: Workspace, model: str, version: str, lists: ShownLists) -> tuple[dict[str, Observed], int]:
    """What a version served, by feature, and to how many visitors."""
    from cascade.training.drift import lists_of, ranker_served, retrieval_served

    mine = lists_of(lists, model, version)
    if not len(mine):  # nothing to load models for
        return {}, 0
    folder = workspace.store.bundle(model, version).path
    if model == "retrieval":
        return retrieval_served(mine, RetrievalArtifacts.load(folder, device="cpu"), workspace.dataset), len(mine)
    return ranker_served(mine, RankerArtifacts.load(folder, device="cpu")), len(mine)


def shown(report: DriftReport) -> dict[str, dg.MarkdownMetadataValue]:
    """The pictures of a report: all indices, and the histograms of the features that moved most."""
    measured = [one for one in report.drifts if one.psi is not None]
    if not measured:
        return {}
    moved = [one for one in (*report.of("drifted"), *report.of("watch")) if one.psi is not None][:6]
    pictures = {"psi": plots.stability(measured)}
    return {**pictures, **({"histograms": plots.histograms(moved)} if moved else {})}


def _table(report: DriftReport) -> str:
    lines = [
        "| model | feature | PSI | chance alone | visitors | reference | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in report.drifts:
        psi, chance = ("" if value is None else f"{value:.3f}" for value in (one.psi, one.chance))
        held = f"{one.reference:,.0f}" + ("" if one.same_hours else " (all hours)")
        lines.append(f"| {one.model} | {one.feature} | {psi} | {chance} | {one.visitors:,} | {held} | {one.state} |")
    return "\n".join([*lines, ""])
