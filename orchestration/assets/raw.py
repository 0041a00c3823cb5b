"""Raw data: the catalog and people of the shop, and its interactions day by day."""

from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

from cascade.data.contract import ITEMS, LIVE_PREFIX
from cascade.data.generator import Shop
from cascade.data.validation import require_valid
from cascade.settings import Settings
from orchestration import plots
from orchestration.base import fresh_base, record_base, recorded_base
from orchestration.partitions import shop_days
from orchestration.provenance import reads
from orchestration.shop import built_in_config
from orchestration.workspace import Workspace

ITEMS_DIGEST = "items.sha256"
_BUILT_IN = reads("shop", "shop_size", "shop_first_day", "seed")


@dg.asset(group_name="raw", code_version="1", metadata=_BUILT_IN, kinds={"python", "parquet"})
def catalog(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Users, items and pictures. A shop of one's own is validated here, before any other work starts."""
    settings = workspace.settings
    with workspace.making(context) as making:
        if settings.own_shop:
            require_valid(settings.dataset_dir)
        else:
            # the built-in shop is Cascade's to replace; days of another size or seed must not linger
            _remove_all_but_live_traffic(settings.dataset_dir)
            Shop.create(built_in_config(settings)).write_catalog(
                settings.dataset_dir, lambda _, done, total: making.report(done, total)
            )
        if recorded_base(settings) is None:
            record_base(settings, fresh_base(settings))
        items = workspace.dataset.items()
        (making.folder / ITEMS_DIGEST).write_text(workspace.dataset.table_digest(ITEMS))
        making.metadata |= {
            "dagster/row_count": items.num_rows,
            "users": workspace.dataset.users().num_rows,
            "folder": dg.MetadataValue.path(str(settings.dataset_dir)),
            "category_mix": plots.bars(items.column("category_l1").to_pylist(), "items by category_l1"),
        }
    return making.result()


def interactions_asset(settings: Settings) -> dg.AssetsDefinition:
    """The interactions of the shop these settings name, partitioned by its days."""

    @dg.asset(
        group_name="raw",
        code_version="1",
        metadata=_BUILT_IN,
        deps=[catalog],
        partitions_def=shop_days(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"python", "parquet"},
    )
    def interactions(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult[None]:
        """Who met what, when and on which device; one Parquet folder a day."""
        dataset_dir = workspace.settings.dataset_dir
        shop = None if workspace.settings.own_shop else Shop.load(dataset_dir)
        with workspace.making(context, extend=True) as making:
            days = [date.fromisoformat(key) for key in context.partition_keys]
            rows = {}
            for done, day in enumerate(days):
                if shop is not None:
                    shop.write_day(dataset_dir, day)
                files = workspace.dataset.interaction_files([day])
                rows[day.isoformat()] = sum(pq.read_metadata(file).num_rows for file in files)
                (making.folder / day.isoformat()).write_text(str(rows[day.isoformat()]))
                making.report(done + 1, len(days))
            making.metadata |= {"dagster/partition_row_count": sum(rows.values()) // len(rows), "rows": rows}
        return making.result()

    return interactions


def _remove_all_but_live_traffic(folder: Path) -> None:
    """Visitors made those files; no setting makes them again."""
    for entry in sorted(folder.rglob("*"), reverse=True):  # what a folder holds comes before it
        if entry.is_dir() and not entry.is_symlink():
            if not any(entry.iterdir()):
                entry.rmdir()
        elif not entry.name.startswith(LIVE_PREFIX):
            entry.unlink()
