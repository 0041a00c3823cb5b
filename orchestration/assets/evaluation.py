"""How good the models are, beside popularity, item-kNN and, on a generated shop, the oracle."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from cascade.data.generator import Shop
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.store.artifacts import RankerArtifacts
from orchestration.assets.features import ROWS, evaluation_rows
from orchestration.assets.training import candidate_index, dlrm, item_vectors, two_tower
from orchestration.catalog import full_catalog, retrieval_parts
from orchestration.provenance import reads
from orchestration.workspace import Workspace

REPORT = "evaluation.json"


@dg.asset(
    group_name="evaluation",
    code_version="3",
    deps=[two_tower, item_vectors, candidate_index, dlrm, evaluation_rows],
    metadata=reads("evaluation_rows", "seed", "event_weights"),
    kinds={"numpy"},
)
def evaluation(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The table that `cascade evaluate` prints."""
    from cascade.models.dlrm import Dlrm
    from cascade.models.two_tower import TwoTower
    from cascade.training.evaluation import CASCADE, POPULARITY, TWO_TOWER, evaluate

    settings, split = workspace.settings, workspace.split()
    with workspace.making(context) as making:
        user = UserTransform.load(workspace.folder("user_transform"))
        catalog = full_catalog(workspace)
        where = ContextTransform.load(workspace.folder("context_transform"))
        query = TwoTower.load(workspace.folder("two_tower")).query
        oracle = Shop.oracle_of(settings.dataset_dir)
        report = evaluate(
            workspace.dataset,
            retrieval_parts(workspace, query, catalog),
            RankerArtifacts(user, where, catalog.items, Dlrm.load(workspace.folder("dlrm"))),
            train_days=split.train,
            eval_days=split.evaluate,
            oracle=oracle,
            max_rows=settings.evaluation_rows,
            seed=settings.seed,
            weights=settings.event_weights,
            threads=settings.training_threads,
            rows_file=workspace.folder("evaluation_rows") / ROWS,
            progress=lambda stage: context.log.info(f"evaluation: {stage}"),
        )
        summary = {
            "two_tower_recall_at_100": report.metric(TWO_TOWER, "recall@100"),
            "popularity_recall_at_100": report.metric(POPULARITY, "recall@100"),
            "two_tower_ndcg_at_10": report.metric(TWO_TOWER, "ndcg@10"),
            "cascade_ndcg_at_10": report.metric(CASCADE, "ndcg@10"),
            "ranker_auc": report.metric(CASCADE, "auc"),
        }
        (making.folder / REPORT).write_text(json.dumps({"summary": summary, **report.to_dict()}, indent=2))
        making.metadata |= summary
        making.metadata |= {"report": dg.MetadataValue.md(report.to_markdown())}
    return making.result()


def read_report(folder: Path) -> dict[str, Any]:
    """The report that the asset wrote."""
    content: dict[str, Any] = json.loads((folder / REPORT).read_text())
    return content
