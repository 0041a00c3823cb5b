"""Models: the masked training set, both checkpoints, the catalog in the candidate space, its index."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from cascade.features.history import Histories, histories_of_rows
from cascade.features.item_table import ItemTable
from cascade.features.masking import Masking
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.settings import Settings
from orchestration import plots
from orchestration.assets.embeddings import VECTORS, image_embeddings, load_vectors, text_embeddings
from orchestration.assets.features import ROWS, evaluation_rows, training_rows
from orchestration.assets.transforms import context_transform, item_transform, user_transform
from orchestration.cluster import TRAINS
from orchestration.provenance import reads
from orchestration.shown import read_shown, write_shown
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade.index.build import IndexChoice
    from cascade.training.loop import LoopConfig, TrainingReport

TWO_TOWER_ROWS, DLRM_ROWS = 900_000, 720_000
"""Rows that a training meets at least, repeats counted: five epochs and four of 180,000 rows, more of fewer. Early
stopping ends them."""


@dg.asset(
    group_name="training",
    code_version="1",
    deps=[item_transform, text_embeddings, image_embeddings],
    kinds={"numpy"},
)
def item_table(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Every feature and embedding of every item, in the catalog's order."""
    with workspace.making(context) as making:
        table = ItemTable.build(
            workspace.dataset.items(),
            ItemTransform.load(workspace.folder("item_transform")),
            load_vectors(workspace.folder("image_embeddings")),
            load_vectors(workspace.folder("text_embeddings")),
        )
        table.save(making.folder)
        making.metadata |= {"dagster/row_count": len(table), "fingerprint": table.fingerprint}
    return making.result()


@dg.asset(
    group_name="training",
    code_version="3",
    deps=[training_rows, user_transform, context_transform, item_table],
    metadata=reads("mask_share", "seed", "training_query", "click_weights", "shown_per_click"),
    kinds={"numpy"},
)
def training_set(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Training rows encoded; some with their user, some with their device hidden, so that the cold start is learned.

    Beside them what lists showed on these days, but for the last one, on which epochs are judged.
    """
    share, seed = workspace.settings.mask_share, workspace.settings.seed
    with workspace.making(context) as making:
        items = ItemTable.load(workspace.folder("item_table"))
        rows = _encode(workspace, "training_rows", items, making.folder, Masking(seed, share, share))
        shown = write_shown(workspace, workspace.split().train[:-1], len(rows), items, making.folder, seed=seed)
        making.metadata |= {
            "dagster/row_count": len(rows),
            "rows_without_item": rows.dropped_rows,
            "shown_in_lists": shown,
        }
    return making.result()


@dg.asset(
    group_name="training",
    code_version="3",
    deps=[evaluation_rows, user_transform, context_transform, item_table],
    metadata=reads("training_query", "click_weights"),
    kinds={"numpy"},
)
def evaluation_set(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Evaluation rows encoded, nothing hidden: what the index is asked when its recall is checked."""
    with workspace.making(context) as making:
        rows = _encode(
            workspace, "evaluation_rows", ItemTable.load(workspace.folder("item_table")), making.folder, None
        )
        making.metadata |= {"dagster/row_count": len(rows), "rows_without_item": rows.dropped_rows}
    return making.result()


@dg.asset(
    group_name="training",
    code_version="6",
    deps=[training_set],
    metadata=reads("training_query", "two_tower_epochs", "training_rows_at_most", "seed"),
    tags=TRAINS,
    kinds={"torch"},
)
def two_tower(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The retrieval model's checkpoint: query tower and candidate tower."""
    from cascade.training.launch import processes
    from cascade.training.query_rows import two_tower_config
    from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower
    from cascade.training.validation import hold_out

    settings = workspace.settings
    with workspace.making(context) as making:
        user, item, where = _transforms(workspace)
        training = TwoTowerTraining()
        learned, judged = hold_out(TrainingSet.load(workspace.folder("training_set")), settings.seed)
        model, report = train_two_tower(
            learned,
            judged,
            ItemTable.load(workspace.folder("item_table")),
            two_tower_config(settings.training_query, user, item, where),
            replace(
                training,
                loop=_budgeted(training.loop, settings, settings.two_tower_epochs, len(learned), TWO_TOWER_ROWS),
            ),
            seed=settings.seed,
            checkpoint_dir=workspace.checkpoints("two_tower"),
            threads=settings.training_threads,
            processes=processes(settings.training_processes),
            progress=making.report,
        )
        model.save(making.folder)
        making.metadata |= {**_summary(report), "candidate_tower": str(model.query.candidate_fingerprint)[:12]}
        making.metadata["query"] = model.config.mode
    return making.result()


@dg.asset(group_name="training", code_version="1", deps=[two_tower, item_table], kinds={"torch"})
def item_vectors(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """The catalog through the candidate tower: float32 [items, 64]."""
    from cascade.embeddings.map import embedding_map
    from cascade.models.two_tower import TwoTower

    with workspace.making(context) as making:
        items = ItemTable.load(workspace.folder("item_table"))
        tower = TwoTower.load(workspace.folder("two_tower")).candidate
        vectors = tower.predict(items.categorical, items.continuous, items.image, items.text)
        np.save(making.folder / VECTORS, vectors)
        categories = workspace.dataset.items().column("category_l1").to_pylist()
        points = embedding_map(vectors, workspace.settings.seed)
        making.metadata |= {
            "dagster/row_count": len(vectors),
            "map": plots.embedding_map(points, categories, "catalog in the candidate space"),
        }
    return making.result()


@dg.asset(
    group_name="training",
    code_version="2",
    deps=[item_vectors, evaluation_set],
    metadata=reads("recall_target", "seed"),
    kinds={"faiss"},
)
def candidate_index(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """The FAISS index over the catalog, of the kind that reaches the recall target for what users ask."""
    from cascade.index.build import build_index
    from cascade.models.two_tower import TwoTower

    settings = workspace.settings
    with workspace.making(context) as making:
        source = TwoTower.load(workspace.folder("two_tower")).candidate.fingerprint()
        vectors = load_vectors(workspace.folder("item_vectors"))
        queries = user_queries(workspace, settings.seed)
        index, choice = build_index(vectors, settings.recall_target, queries=queries, source=source, seed=settings.seed)
        index.save(making.folder)
        making.metadata |= about_index(choice, len(queries))
    return making.result()


def user_queries(workspace: Workspace, seed: int, count: int = 512) -> "NDArray[np.float32]":
    """What users ask the index: evaluation rows, sampled by the seed, through the query tower, float32 [count, 64].

    Users lie otherwise than items in the common space, so an index is tuned and judged by these.
    """
    from cascade.models.two_tower import TwoTower
    from cascade.training.query_rows import query_vectors

    rows = TrainingSet.load(workspace.folder("evaluation_set"))
    some = rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows))[:count]))
    query = TwoTower.load(workspace.folder("two_tower")).query
    # Histories name items of the full training's table, whatever the catalog is now.
    vectors = load_vectors(workspace.folder("item_vectors"))
    return query_vectors(query, some.user, some.context, some.histories, some.timestamp, vectors)


def about_index(choice: "IndexChoice", queries: int) -> dict[str, object]:
    """What was chosen, why, and what else was tried, for the page of an asset."""
    lines = [
        f"| {trial.structure} | {trial.effort} | {trial.recall:.4f} | {trial.microseconds / 1000:.2f} | "
        f"{trial.verdict} |"
        for trial in choice.tried
    ]
    head = ["| structure | effort | recall | about ms | target |", "| --- | --- | ---: | ---: | --- |"]
    return {
        "kind": choice.kind,
        "recall": choice.recall,
        "queries": queries,
        "reason": choice.reason,
        "parameters": dg.MetadataValue.json(choice.parameters),
        **({"tried": dg.MetadataValue.md("\n".join([*head, *lines]))} if lines else {}),
    }


@dg.asset(
    group_name="training",
    code_version="8",
    deps=[training_set, two_tower],
    metadata=reads("training_query", "training_attention_heads", "dlrm_epochs", "training_rows_at_most", "seed"),
    tags=TRAINS,
    kinds={"torch"},
)
def dlrm(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The ranker's checkpoint, with the towers' score as a part of its logit."""
    from cascade.models.two_tower import TwoTower
    from cascade.training.affinities import stack
    from cascade.training.dlrm_training import DlrmTraining, dlrm_config, train_dlrm
    from cascade.training.launch import processes
    from cascade.training.validation import hold_out

    settings = workspace.settings
    with workspace.making(context) as making:
        user, item, where = _transforms(workspace)
        training = DlrmTraining()
        learned, judged = hold_out(TrainingSet.load(workspace.folder("training_set")), settings.seed)
        loop = _budgeted(training.loop, settings, settings.dlrm_epochs, len(learned), DLRM_ROWS)
        alone = replace(training, calibrate=False, loop=loop)  # what is calibrated is the sum, below
        items = ItemTable.load(workspace.folder("item_table"))
        model, report = train_dlrm(
            learned,
            judged,
            items,
            dlrm_config(settings.training_query, user, item, where, attention_heads=settings.training_attention_heads),
            alone,
            impressions=read_shown(workspace.folder("training_set")),
            seed=settings.seed,
            checkpoint_dir=workspace.checkpoints("dlrm"),
            threads=settings.training_threads,
            processes=processes(settings.training_processes),
            progress=making.report,
        )
        if judged is not None:
            towers = TwoTower.load(workspace.folder("two_tower"))
            report = replace(report, calibration=stack(model, towers, learned, judged, items, training, settings.seed))
        model.save(making.folder)
        making.metadata |= {**_summary(report), "history": model.config.history_length}
        if report.calibration is not None:
            making.metadata["calibration"] = dg.MetadataValue.json(asdict(report.calibration))
    return making.result()


def _encode(workspace: Workspace, rows: str, items: ItemTable, folder: Path, masking: Masking | None) -> TrainingSet:
    user, _, where = _transforms(workspace)
    path = workspace.folder(rows) / ROWS
    histories = histories_for(workspace, path, items)
    weights = workspace.settings.click_weights
    return TrainingSet.build(
        path, user, where, items, histories=histories, masking=masking, weights=weights, folder=folder
    )


def histories_for(workspace: Workspace, rows: Path, items: ItemTable) -> Histories | None:
    """What the rows' users did before them, where the models read it.

    Of the days up to the rows' last one: later ones hold nothing that any row may see.
    """
    if workspace.settings.training_query != "session":
        return None
    return histories_of_rows(rows, workspace.dataset, items.item_ids)


def _transforms(workspace: Workspace) -> tuple[UserTransform, ItemTransform, ContextTransform]:
    return (
        UserTransform.load(workspace.folder("user_transform")),
        ItemTransform.load(workspace.folder("item_transform")),
        ContextTransform.load(workspace.folder("context_transform")),
    )


def _budgeted(loop: "LoopConfig", settings: Settings, epochs: int | None, rows: int, wanted: int) -> "LoopConfig":
    """The library's loop within what the settings allow, long enough for a small shop where they say nothing."""
    loop = loop.meeting(rows, wanted) if epochs is None else replace(loop, epochs=epochs)
    return replace(loop, rows_at_most=settings.training_rows_at_most)


def _summary(report: "TrainingReport") -> dict[str, object]:
    curve = report.curve
    return {
        "dagster/row_count": report.rows,
        "parameters": report.parameters,
        "epochs": report.epochs,
        "best_epoch": report.best_epoch,
        "steps": report.steps,
        "resumed_from_step": report.resumed_from,
        "loss": plots.curves(
            {"training": (curve.steps, curve.losses), "validation": (curve.validation_steps, curve.validation_losses)},
            "loss",
            "step",
        ),
    }
