"""Features as of each row's own time, and popularity."""

from datetime import date

import dagster as dg

from cascade.features.point_in_time import training_rows as write_training_rows
from cascade.features.popularity import count_popularity
from cascade.features.source import QueryLimits
from orchestration.provenance import reads
from orchestration.workspace import Making, Workspace

ROWS = "rows.parquet"
_DAYS = ("train_share", "kept_days")
INTERACTIONS = dg.AssetKey("interactions")


@dg.asset(
    group_name="features",
    code_version="2",
    deps=[INTERACTIONS],
    metadata=reads(*_DAYS, "event_weights"),
    kinds={"duckdb"},
)
def training_rows(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """The training days' interactions, each with what was known of its user just before it."""
    with workspace.making(context) as making:
        _write_rows(workspace, workspace.split().train, making)
    return making.result()


@dg.asset(
    group_name="features",
    code_version="2",
    deps=[INTERACTIONS],
    metadata=reads(*_DAYS, "event_weights"),
    kinds={"duckdb"},
)
def evaluation_rows(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """The evaluation days' interactions, likewise."""
    with workspace.making(context) as making:
        _write_rows(workspace, workspace.split().evaluate, making)
    return making.result()


@dg.asset(group_name="features", code_version="2", deps=[INTERACTIONS], metadata=reads(*_DAYS), kinds={"duckdb"})
def popularity(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """How often items were met on the training days: overall, by category_l1, by category_l2."""
    with workspace.making(context) as making:
        popular = count_popularity(workspace.dataset, workspace.split().train, limits=limits(workspace))
        popular.save(making.folder / "popularity.json")
        titles = dict(zip(*workspace.dataset.items().select(["item_id", "title"]).to_pydict().values(), strict=True))
        lines = [f"| {titles.get(item, item)} | {count:,.0f} |" for item, count in popular.global_[:10]]
        making.metadata |= {
            "items": len(popular.global_),
            "top_10": dg.MetadataValue.md("\n".join(["| title | interactions |", "| --- | --- |", *lines])),
        }
    return making.result()


def limits(workspace: Workspace) -> QueryLimits:
    """What a DuckDB query of the build may take."""
    return QueryLimits(memory=workspace.settings.duckdb_memory)


def _write_rows(workspace: Workspace, days: list[date], making: Making) -> None:
    path = making.folder / ROWS
    stats = write_training_rows(
        workspace.dataset,
        days,
        path,
        weights=workspace.settings.event_weights,
        limits=limits(workspace),
        progress=making.report,
    )
    making.metadata |= {
        "dagster/row_count": stats.rows,
        "rows_without_top_category": stats.rows_without_top_category,
        "rows_of_unknown_users": stats.rows_of_unknown_users,
        "rows_of_unknown_items": stats.rows_of_unknown_items,
        "days": [day.isoformat() for day in days],
    }
