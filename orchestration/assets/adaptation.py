"""Does fine-tuning help? Models of each day before, on the day after."""

import json
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from cascade.features.point_in_time import training_rows as write_training_rows
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.store.artifacts import RankerArtifacts
from orchestration import lineage, plots
from orchestration.assets.features import ROWS, limits
from orchestration.base import days_to_learn
from orchestration.catalog import retrieval_parts
from orchestration.lineage import current_catalog
from orchestration.provenance import reads
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from cascade.training.gates import Measured

REPORT = "adaptation.json"
NEVER, TUNED, STABLE = "never fine-tuned", "fine-tuned", "stable"


@dg.asset(
    group_name="evaluation",
    code_version="1",
    deps=["daily_retrieval_bundle", "daily_ranker_bundle"],
    metadata=reads("evaluation_rows", "seed", "event_weights"),
    kinds={"numpy"},
)
def adaptation_report(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Each day asked of three models that have not seen it.

    The full training's, never fine-tuned; the one fine-tuned to the day before, whatever its gates said; the stable
    one, fine-tuned to the last day that passed.
    """
    lineage.require_models(workspace)
    tuned_on = sorted(
        set(lineage.days_made(workspace, "fine_tuned_two_tower")) & set(lineage.days_made(workspace, "fine_tuned_dlrm"))
    )
    if not tuned_on:
        raise dg.Failure("no day was fine-tuned on yet; run the job `fine_tuning` for one first")
    days = [day for day in days_to_learn(workspace.settings) if day > tuned_on[0]]
    if not days:
        raise dg.Failure(f"no complete day after {tuned_on[0]}, the first that was fine-tuned on; wait for one")
    with workspace.making(context, made_of={"days": ",".join(map(str, (*tuned_on, *days)))}) as making:
        report: list[dict[str, object]] = []
        for done, day in enumerate(days):
            report += _of_day(workspace, day, tuned_on)
            making.report(done + 1, len(days))
        (making.folder / REPORT).write_text(json.dumps(report, indent=2))
        making.metadata |= {"days": [str(day) for day in days], "report": dg.MetadataValue.md(_table(report))}
        for metric in ("recall@100", "ndcg@10", "auc", "calibration_error"):
            making.metadata[metric.replace("@", "_at_")] = _plot(report, metric)
    return making.result()


def _of_day(workspace: Workspace, day: date, tuned_on: list[date]) -> list[dict[str, object]]:
    from cascade.models.dlrm import Dlrm
    from cascade.models.two_tower import TwoTower
    from cascade.training.gates import judged_rows, measure_ranker, measure_retrieval, slices_of

    settings, now = workspace.settings, current_catalog(workspace)
    user = UserTransform.load(workspace.folder("user_transform"))
    where = ContextTransform.load(workspace.folder("context_transform"))
    rows = judged_rows(_rows(workspace, day), [now.items], settings.evaluation_rows, settings.seed)
    slices = slices_of(rows, user, now.items)
    last = max(one for one in tuned_on if one < day)
    tower, ranker = (
        lineage.predecessor(workspace, asset, day) for asset in ("fine_tuned_two_tower", "fine_tuned_dlrm")
    )
    models = {
        NEVER: (workspace.folder("two_tower"), workspace.folder("dlrm"), "the full training"),
        TUNED: (
            workspace.folder("fine_tuned_two_tower", str(last)) / lineage.MODEL,
            workspace.folder("fine_tuned_dlrm", str(last)) / lineage.MODEL,
            str(last),
        ),
        STABLE: (tower.model, ranker.model, f"{tower.day or 'base'} / {ranker.day or 'base'}"),
    }
    found = []
    measured: dict[tuple[str, str], tuple[Measured, Measured]] = {}
    for name, (two_tower, dlrm, made) in models.items():
        key = (str(two_tower), str(dlrm))
        if key not in measured:
            retrieval = retrieval_parts(workspace, TwoTower.load(two_tower).query, now)
            ranking = RankerArtifacts(user, where, now.items, Dlrm.load(dlrm))
            measured[key] = (
                measure_retrieval(rows, retrieval, slices, source=workspace.dataset),
                measure_ranker(rows, retrieval, ranking, slices, source=workspace.dataset, seed=settings.seed),
            )
        first, second = measured[key]
        found += [
            {
                "day": str(day),
                "model": name,
                "made": made,
                "slice": one,
                "rows": int(chosen.sum()),
                **first[one],
                **second[one],
            }
            for one, chosen in slices.items()
        ]
    return found


def _rows(workspace: Workspace, day: date) -> pa.Table:
    """The day's rows, those of its fine-tuning where it had one."""
    made = workspace.folder("daily_rows", str(day)) / ROWS
    if made.is_file():
        return pq.read_table(made)
    aside = workspace.settings.artifacts_dir / ".adaptation" / ROWS
    try:
        write_training_rows(
            workspace.dataset, [day], aside, weights=workspace.settings.event_weights, limits=limits(workspace)
        )
        return pq.read_table(aside)
    finally:
        aside.unlink(missing_ok=True)


def _table(report: list[dict[str, object]]) -> str:
    metrics = ("recall@100", "ndcg@10", "auc", "calibration_error")
    lines = [
        "| day | slice | rows | model | made of | " + " | ".join(metrics) + " |",
        "| --- | --- | ---: | --- | --- |" + " ---: |" * len(metrics),
    ]
    for row in report:
        cells = [f"{row[name]:.4f}" if name in row else "" for name in metrics]
        lines.append(
            f"| {row['day']} | {row['slice']} | {row['rows']:,} | {row['model']} | {row['made']} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join([*lines, ""])


def _plot(report: list[dict[str, object]], metric: str) -> dg.MarkdownMetadataValue:
    days = sorted({str(row["day"]) for row in report})
    series = {}
    for model in (NEVER, TUNED, STABLE):
        points = [
            (days.index(str(row["day"])), row[metric])
            for row in report
            if row["model"] == model and row["slice"] == "all" and metric in row
        ]
        series[model] = ([float(x) for x, _ in points], [float(str(y)) for _, y in points])
    return plots.curves(series, metric, f"day after, from {days[0]}")
