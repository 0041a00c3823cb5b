"""Fitted transforms, each an artifact of its own, fitted on what the training days show."""

import dagster as dg

from cascade.features.seen import devices_seen, items_seen, users_seen
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from orchestration.assets.features import INTERACTIONS, limits
from orchestration.provenance import reads
from orchestration.workspace import Workspace

_DAYS = reads("train_share", "kept_days")


@dg.asset(group_name="transforms", code_version="1", deps=[INTERACTIONS], metadata=_DAYS, kinds={"python"})
def user_transform(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """User, gender, age bucket and top category to rows; age standardised."""
    with workspace.making(context) as making:
        users = users_seen(workspace.dataset, workspace.split().train, limits=limits(workspace))
        transform = UserTransform.fit(users, workspace.dataset.items().column("category_l1").to_pylist())
        transform.save(making.folder)
        making.metadata |= {"users": len(users), "cardinalities": list(transform.cardinalities)}
    return making.result()


@dg.asset(group_name="transforms", code_version="1", deps=[INTERACTIONS], metadata=_DAYS, kinds={"python"})
def item_transform(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Item and categories to rows; log-price standardised. An item that training never saw has no row of its own."""
    with workspace.making(context) as making:
        item_ids = items_seen(workspace.dataset, workspace.split().train, limits=limits(workspace))
        transform = ItemTransform.fit(workspace.dataset.items(), item_ids.to_pylist())
        transform.save(making.folder)
        making.metadata |= {"items": len(item_ids), "cardinalities": list(transform.cardinalities)}
    return making.result()


@dg.asset(group_name="transforms", code_version="1", deps=[INTERACTIONS], metadata=_DAYS, kinds={"python"})
def context_transform(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Device to a row; hour and weekday to sines and cosines."""
    with workspace.making(context) as making:
        devices = devices_seen(workspace.dataset, workspace.split().train, limits=limits(workspace))
        transform = ContextTransform.fit(devices)
        transform.save(making.folder)
        making.metadata |= {"cardinalities": list(transform.cardinalities)}
    return making.result()
