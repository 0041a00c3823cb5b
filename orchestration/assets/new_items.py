"""New items the same day: their embeddings and vectors by the models that are there, in new versions of all bundles."""

from dataclasses import replace

import dagster as dg
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.data.contract import ITEMS
from cascade.embeddings.item_text import item_text
from cascade.embeddings.pca import Pca
from cascade.features.item import ItemTransform
from cascade.features.spec import EMBEDDING_DIM
from cascade.store.artifacts import GatewayArtifacts, RankerArtifacts, RetrievalArtifacts
from cascade.store.bundles import Bundle
from cascade.store.model_store import STABLE
from cascade.store.release import promote
from orchestration import lineage
from orchestration.assets.embeddings import SHOP_CLIP, VECTORS, image_embeddings, load_vectors, text_embeddings
from orchestration.assets.features import popularity
from orchestration.assets.raw import ITEMS_DIGEST, catalog
from orchestration.assets.release import gateway_bundle, ranker_bundle, retrieval_bundle
from orchestration.assets.training import candidate_index, item_table, two_tower, user_queries
from orchestration.lineage import INDEX, current_catalog
from orchestration.lineage import ITEMS as TABLE
from orchestration.provenance import reads
from orchestration.workspace import CheckedResult, Workspace

_SHOWN = 20


@dg.asset(
    group_name="fine_tuning",
    code_version="3",
    deps=[catalog, text_embeddings, image_embeddings, item_table, two_tower, candidate_index],
    metadata=reads("text_encoder", "image_encoder", "recall_target", "seed"),
    check_specs=[
        dg.AssetCheckSpec(
            "new_items_are_found",
            asset="new_items",
            blocking=True,
            description="each new item is found by its own vector, and no item that left is in the index",
        )
    ],
    kinds={"torch", "faiss"},
)
def new_items(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> CheckedResult:
    """Item table and index of today's catalog: what joined by the stored encoders, PCA and frozen tower."""
    from cascade.index.build import build_index
    from cascade.models.two_tower import TwoTower
    from cascade.training.new_items import catalog_change, items_without_id, updated_table

    lineage.require_models(workspace)
    settings, dataset = workspace.settings, workspace.dataset
    now, digest = dataset.items(), dataset.table_digest(ITEMS)
    before = current_catalog(workspace)
    change = catalog_change(now, before.items)
    made_of = {"base": workspace.digest("candidate_index"), "items": digest}
    with workspace.making(context, made_of=made_of) as making:
        tower = TwoTower.load(workspace.folder("two_tower")).candidate
        table = updated_table(
            now,
            before.items,
            ItemTransform.load(workspace.folder("item_transform")),
            lambda fresh: _pictures(workspace, fresh),
            lambda fresh: _texts(workspace, fresh),
        )
        making.report(1, 2)
        vectors = tower.predict(table.categorical, table.continuous, table.image, table.text)
        index, choice = build_index(
            vectors,
            settings.recall_target,
            queries=user_queries(workspace, settings.seed),
            source=tower.fingerprint(),
            seed=settings.seed,
        )
        table.save(making.folder / TABLE)
        index.save(making.folder / INDEX)
        np.save(making.folder / VECTORS, vectors)
        fresh = table.positions(change.added)
        lost = _not_found(index.search(vectors[fresh], min(10, len(table)))[1], fresh) if len(fresh) else []
        gone = [item for item in change.removed if item in table.item_ids]
        making.metadata |= {
            "dagster/row_count": len(table),
            "added": len(change.added),
            "removed": len(change.removed),
            "without_an_id_of_their_own": len(items_without_id(table)),
            "new": dg.MetadataValue.md(_listed(now, change.added)),
            "index": choice.reason,
        }
        check = dg.AssetCheckResult(
            check_name="new_items_are_found",
            passed=not lost and not gone and choice.recall >= settings.recall_target,
            metadata={"not_found": [change.added[n] for n in lost], "still_there": gone, "recall": choice.recall},
        )
    return making.result(check)


@dg.asset(
    group_name="release",
    code_version="1",
    deps=[new_items, retrieval_bundle, ranker_bundle, gateway_bundle, popularity],
    metadata=reads("model_store"),
    kinds={"python"},
)
def new_items_release(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """What serves, over today's catalog: new versions whose parents are the stable ones, their models unchanged.

    The gateway first, that it can show what retrieval then finds.
    """
    from cascade.training.new_items import popularity_within

    now, store = current_catalog(workspace), workspace.store
    stable = {service: store.bundle(service, STABLE) for service in ("gateway", "ranker", "retrieval")}
    made_of = {service: bundle.version for service, bundle in stable.items()}
    with workspace.making(context, made_of={**made_of, "items": now.items.fingerprint}) as making:
        _require_this_base(workspace, stable)
        gateway = GatewayArtifacts.load(stable["gateway"].path)
        ranker = RankerArtifacts.load(stable["ranker"].path)
        retrieval = RetrievalArtifacts.load(stable["retrieval"].path)
        parts: dict[str, GatewayArtifacts | RankerArtifacts | RetrievalArtifacts] = {
            "gateway": GatewayArtifacts.from_catalog(
                workspace.dataset.items(), popularity_within(gateway.popularity, now.items)
            ),
            "ranker": replace(ranker, items=now.items),
            "retrieval": replace(
                retrieval,
                index=now.index,
                item_ids=now.items.item_ids,
                item_vectors=None if retrieval.item_vectors is None else load_vectors(now.vectors),
            ),
        }
        unchanged = {
            "gateway": list(gateway.items) == workspace.dataset.items().column("item_id").to_pylist(),
            "ranker": ranker.items.fingerprint == now.items.fingerprint,
            "retrieval": retrieval.item_ids == now.items.item_ids,
        }
        for service, part in parts.items():
            parent = stable[service].manifest
            version = parent.version
            if not unchanged[service]:
                version = store.write(
                    service,
                    part.save,
                    training_days=parent.training_days,
                    evaluation_days=parent.evaluation_days,
                    parent=parent.version,
                    lineage={} if isinstance(part, GatewayArtifacts) else part.lineage,
                    metrics=parent.metrics,
                ).version
                promote(store, service, version)
            making.metadata |= {service: version, f"{service}_parent": parent.version}
        making.metadata["items"] = len(now.items)
    return making.result()


def _require_this_base(workspace: Workspace, stable: dict[str, Bundle]) -> None:
    """The new vectors are of this full training's tower; a query tower of another one cannot be asked about them."""
    from cascade.models.two_tower import TwoTower

    tower = TwoTower.load(workspace.folder("two_tower")).candidate.fingerprint()
    serving = stable["retrieval"].manifest.lineage.get("candidate_tower")
    if serving != tower:
        raise dg.Failure(
            f"retrieval serves {stable['retrieval'].version}, of another full training than the one on disk; "
            "promote a version of this one, or run a full retrain"
        )


def catalog_changed(workspace: Workspace) -> bool:
    """Whether items.parquet is another one than models and index were last made for."""
    now = workspace.dataset.table_digest(ITEMS)
    if lineage.is_of_this_base(workspace):
        return bool(workspace.recorded(lineage.NEW_ITEMS)["made_of"]["items"] != now)
    built = workspace.folder("catalog") / ITEMS_DIGEST
    return built.is_file() and built.read_text().strip() != now


def _texts(workspace: Workspace, fresh: pa.Table) -> NDArray[np.float32]:
    from cascade.embeddings.text import TextEncoder

    titles, descriptions = fresh.column("title").to_pylist(), fresh.column("description").to_pylist()
    texts = [item_text(title, description) for title, description in zip(titles, descriptions, strict=True)]
    encoded = TextEncoder(workspace.settings.text_encoder).encode(texts)
    return Pca.load(workspace.folder("text_embeddings") / "pca").transform(encoded)


def _pictures(workspace: Workspace, fresh: pa.Table) -> NDArray[np.float32]:
    from cascade.embeddings.image import ImageEncoder

    settings, pca = workspace.settings, workspace.folder("image_embeddings") / "pca"
    if not pca.exists():  # the shop had too few pictures to learn from: all its items have a row of zeros
        return np.zeros((len(fresh), EMBEDDING_DIM), np.float32)
    own = workspace.folder("shop_clip") / "model"
    encoder = ImageEncoder(own if settings.image_encoder == SHOP_CLIP else settings.image_encoder)
    paths = [workspace.dataset.image_path(image) for image in fresh.column("image").to_pylist()]
    return Pca.load(pca).transform(encoder.encode(paths))


def _not_found(found: NDArray[np.int32], positions: NDArray[np.int32]) -> list[int]:
    """Which of the items [N] are not among what their own vectors found [N, K]."""
    return [int(n) for n in np.flatnonzero(~(found == positions[:, None]).any(axis=1))]


def _listed(items: pa.Table, ids: list[str]) -> str:
    titles = dict(zip(items.column("item_id").to_pylist(), items.column("title").to_pylist(), strict=True))
    lines = [f"| {item} | {titles[item]} |" for item in ids[:_SHOWN]]
    more = [f"\n… and {len(ids) - _SHOWN} more"] if len(ids) > _SHOWN else []
    return "\n".join(["| item | title |", "| --- | --- |", *lines, *more])
