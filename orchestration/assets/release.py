"""Bundles: what each service loads, with the alias `stable` on the newest whose checks passed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg

from cascade.features.item_table import ItemTable
from cascade.features.popularity import Popularity
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.store import ModelStore
from cascade.store.artifacts import GatewayArtifacts, RankerArtifacts
from cascade.store.bundles import Bundle
from cascade.store.model_store import STABLE
from cascade.store.release import promote
from orchestration import references
from orchestration.assets.evaluation import evaluation, read_report
from orchestration.assets.features import popularity
from orchestration.assets.raw import catalog
from orchestration.assets.training import candidate_index, dlrm, item_vectors, two_tower
from orchestration.catalog import full_catalog, retrieval_parts
from orchestration.provenance import reads
from orchestration.workspace import Making, Workspace

VERSION = "version.txt"


@dg.asset(
    group_name="release",
    code_version="4",
    deps=[two_tower, item_vectors, candidate_index, evaluation],
    metadata=reads("model_store", "seed"),
    kinds={"python"},
)
def retrieval_bundle(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Query tower, index, and what the tower reads, for the retrieval service."""
    from cascade.models.two_tower import TwoTower

    with workspace.making(context) as making:
        query = TwoTower.load(workspace.folder("two_tower")).query
        parts = retrieval_parts(workspace, query, full_catalog(workspace))
        parts = replace(parts, reference=references.of_retrieval(workspace, parts))
        _release(workspace, "retrieval", parts.save, parts.lineage, making)
    return making.result()


@dg.asset(
    group_name="release",
    code_version="3",
    deps=[dlrm, evaluation],
    metadata=reads("model_store", "seed"),
    kinds={"python"},
)
def ranker_bundle(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """DLRM, transforms and item table for the ranker."""
    from cascade.models.dlrm import Dlrm
    from cascade.models.two_tower import TwoTower

    with workspace.making(context) as making:
        retrieval = retrieval_parts(
            workspace, TwoTower.load(workspace.folder("two_tower")).query, full_catalog(workspace)
        )
        parts = RankerArtifacts(
            UserTransform.load(workspace.folder("user_transform")),
            ContextTransform.load(workspace.folder("context_transform")),
            ItemTable.load(workspace.folder("item_table"), mmap=True),
            Dlrm.load(workspace.folder("dlrm")),
        )
        parts = replace(parts, reference=references.of_ranker(workspace, retrieval, parts))
        _release(workspace, "ranker", parts.save, parts.lineage, making)
    return making.result()


@dg.asset(
    group_name="release",
    code_version="2",
    deps=[catalog, popularity],
    metadata=reads("model_store"),
    kinds={"python"},
)
def gateway_bundle(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """What the gateway shows of each item, and popularity for when all else is down."""
    with workspace.making(context) as making:
        popular = Popularity.load(workspace.folder("popularity") / "popularity.json")
        parts = GatewayArtifacts.from_catalog(workspace.dataset.items(), popular)
        _release(workspace, "gateway", parts.save, {}, making)
    return making.result()


def _release(
    workspace: Workspace, service: str, fill: Callable[[Path], None], lineage: dict[str, str], making: Making
) -> None:
    split = workspace.split()
    # the gateway's bundle holds no model, so no evaluation either
    scores = read_report(workspace.folder("evaluation"))["summary"] if lineage else {}
    store = workspace.store
    bundle = store.write(
        service,
        fill,
        training_days=split.train,
        evaluation_days=split.evaluate,
        lineage=lineage,
        metrics=scores,
    )
    serving = store.alias(service, STABLE)
    if serving is None or not descends(store, service, serving, bundle.version):
        promote(store, service, bundle.version)
    note_version(making, bundle)
    making.metadata |= {"serving": str(store.alias(service, STABLE)), **lineage}


def descends(store: ModelStore, service: str, version: str, ancestor: str) -> bool:
    """Whether a version is the other one or came from it, by fine-tuning or with new items."""
    met: set[str] = set()
    known = set(store.versions(service))
    current: str | None = version
    while current is not None and current not in met:
        if current == ancestor:
            return True
        met.add(current)
        current = store.manifest(service, current).parent if current in known else None
    return False


def note_version(making: Making, bundle: Bundle) -> None:
    """Keep in the artifact which version it became, and show it."""
    (making.folder / VERSION).write_text(bundle.version)
    size = sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file())
    making.metadata |= {"version": bundle.version, "megabytes": round(size / 2**20, 2)}


def noted_version(folder: Path) -> str | None:
    """The version that a bundle's artifact became; None where there is no artifact."""
    try:
        return (folder / VERSION).read_text().strip()
    except FileNotFoundError:
        return None
