"""How good the models are, beside popularity, item-kNN and, on a generated shop, the oracle."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow.parquet as pq

from cascade.data.generator import Shop
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.store.artifacts import RankerArtifacts
from orchestration import plots
from orchestration.assets.features import ROWS, evaluation_rows
from orchestration.assets.training import candidate_index, dlrm, item_vectors, two_tower
from orchestration.catalog import full_catalog, retrieval_parts
from orchestration.provenance import reads
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from cascade.training.report import EvaluationReport

REPORT, PAGE = "evaluation.json", "evaluation.html"
# A part of what `cascade evaluate` looks at: a build waits for it.
ABLATION_ROWS = 200
NEW_USER_EVENTS = (0, 3)


@dg.asset(
    group_name="evaluation",
    code_version="4",
    deps=[two_tower, item_vectors, candidate_index, dlrm, evaluation_rows],
    metadata=reads("evaluation_rows", "seed", "event_weights"),
    kinds={"numpy"},
)
def evaluation(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The table that `cascade evaluate` prints, and its page."""
    from cascade.evaluation_page import catalog_map, render
    from cascade.models.dlrm import Dlrm
    from cascade.models.two_tower import TwoTower
    from cascade.training.contestants import EASE, LIGHT_BASELINES
    from cascade.training.evaluation import CASCADE, POPULARITY, TWO_TOWER, Scope, evaluate

    settings, split = workspace.settings, workspace.split()
    with workspace.making(context) as making:
        user = UserTransform.load(workspace.folder("user_transform"))
        catalog = full_catalog(workspace)
        where = ContextTransform.load(workspace.folder("context_transform"))
        towers = TwoTower.load(workspace.folder("two_tower"))
        oracle = Shop.oracle_of(settings.dataset_dir)
        retrieval = retrieval_parts(workspace, towers.query, catalog)
        report = evaluate(
            workspace.dataset,
            retrieval,
            RankerArtifacts(user, where, catalog.items, Dlrm.load(workspace.folder("dlrm"))),
            train_days=split.train,
            eval_days=split.evaluate,
            oracle=oracle,
            scope=Scope(
                max_rows=settings.evaluation_rows,
                baselines=(*LIGHT_BASELINES, EASE) if _is_small(workspace) else LIGHT_BASELINES,
                new_user_events=NEW_USER_EVENTS,
                ablations=ABLATION_ROWS,
            ),
            seed=settings.seed,
            weights=settings.event_weights,
            threads=settings.training_threads,
            rows_file=workspace.folder("evaluation_rows") / ROWS,
            tower=towers.candidate,
            progress=lambda stage: context.log.info(f"evaluation: {stage}"),
        )
        summary = {
            "two_tower_recall_at_100": report.metric(TWO_TOWER, "recall@100"),
            "popularity_recall_at_100": report.metric(POPULARITY, "recall@100"),
            "two_tower_ndcg_at_10": report.metric(TWO_TOWER, "ndcg@10"),
            "cascade_ndcg_at_10": report.metric(CASCADE, "ndcg@10"),
            "ranker_auc": report.metric(CASCADE, "auc"),
        }
        content = {"summary": summary, **report.to_dict()}
        (making.folder / REPORT).write_text(json.dumps(content, indent=2))
        about = {
            "evaluated": "the models of this build",
            "folder": settings.dataset_dir.resolve().name,
            "absent": workspace.dataset.absent(),
        }
        points = catalog_map(workspace.dataset, catalog.items, retrieval, settings.seed)
        (making.folder / PAGE).write_text(render({**about, **content}, points), encoding="utf-8")
        making.metadata |= summary
        making.metadata["page"] = dg.MetadataValue.path(str(workspace.folder("evaluation") / PAGE))
        making.metadata |= {"report": dg.MetadataValue.md(report.to_markdown()), **_pictures(report)}
    return making.result()


def _is_small(workspace: Workspace) -> bool:
    """Whether one more baseline is nothing beside the trainings."""
    from cascade.training.contestants import TUNED_INTERACTIONS

    files = workspace.dataset.interaction_files(workspace.split().train)
    return sum(int(pq.read_metadata(path).num_rows) for path in files) <= TUNED_INTERACTIONS


def _pictures(report: "EvaluationReport") -> dict[str, dg.MarkdownMetadataValue]:
    """Models beside each other, with their intervals, and what each group of features is worth."""
    rows = [row for row in report.rows if row.slice == "all"]
    found = {
        f"plot_{metric.replace('@', '_at_')}": plots.intervals(
            [row.model for row in rows],
            [row.metrics[metric] for row in rows],
            [row.intervals.get(metric) for row in rows],
            metric,
        )
        for metric in ("recall@10", "ndcg@10")
    }
    losses = [one for one in report.ablations if one.metric == "ndcg@10"]
    if losses:
        found["plot_ablations"] = plots.intervals(
            [f"{one.group} ({one.model})" for one in losses],
            [one.loss for one in losses],
            [one.interval for one in losses],
            "ndcg@10 lost without",
        )
    return found


def read_report(folder: Path) -> dict[str, Any]:
    """The report that the asset wrote."""
    content: dict[str, Any] = json.loads((folder / REPORT).read_text())
    return content
