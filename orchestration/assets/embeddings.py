"""What items look like and say, as vectors of 64."""

from pathlib import Path

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from cascade.embeddings.item_text import item_text
from cascade.embeddings.map import embedding_map
from cascade.embeddings.pca import Pca
from cascade.features.spec import EMBEDDING_DIM
from orchestration import plots
from orchestration.assets.raw import catalog
from orchestration.provenance import reads
from orchestration.workspace import Making, Workspace

SHOP_CLIP = "shop-clip"
VECTORS = "vectors.npy"
MIN_PICTURES = 32
"""Fewer pictures than this teach a CLIP nothing."""


@dg.asset(
    group_name="embeddings",
    code_version="1",
    deps=[catalog],
    metadata=reads("image_encoder", "clip_epochs", "seed"),
    kinds={"torch"},
)
def shop_clip(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """A small CLIP trained on the shop's own pictures and texts; skipped where another image encoder is set."""
    from cascade.embeddings.clip_training import DEFAULT_EPOCHS, train_clip

    settings = workspace.settings
    with workspace.making(context) as making:
        paths = _pictures(workspace)
        if settings.image_encoder != SHOP_CLIP or sum(path is not None for path in paths) < MIN_PICTURES:
            making.metadata |= {"trained": False, "image_encoder": settings.image_encoder}
        else:
            # training resumes from where an interrupted one left its checkpoints
            folder = workspace.checkpoints("shop_clip")
            report = train_clip(
                paths,
                _texts(workspace),
                folder,
                seed=settings.seed,
                epochs=settings.clip_epochs or DEFAULT_EPOCHS,
                progress=making.report,
            )
            folder.rename(making.folder / "model")
            making.metadata |= {
                "trained": True,
                "held_out_recall_at_10": report.held_out_recall,
                "chance": report.held_out_chance,
                "loss": plots.curves(
                    {"contrastive loss": (range(1, report.steps + 1), report.step_losses)}, "shop CLIP", "step"
                ),
            }
    return making.result()


@dg.asset(
    group_name="embeddings", code_version="1", deps=[catalog], metadata=reads("text_encoder", "seed"), kinds={"torch"}
)
def text_embeddings(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Titles and descriptions by a sentence-transformers model."""
    from cascade.embeddings.text import TextEncoder

    with workspace.making(context) as making:
        encoder = TextEncoder(workspace.settings.text_encoder)
        vectors = encoder.encode(_texts(workspace), progress=making.report)
        _reduce(workspace, vectors, making, "texts of the catalog")
    return making.result()


@dg.asset(
    group_name="embeddings",
    code_version="1",
    deps=[shop_clip],
    metadata=reads("image_encoder", "seed"),
    kinds={"torch"},
)
def image_embeddings(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Pictures by an open_clip model; an item without one has a row of zeros."""
    from cascade.embeddings.image import ImageEncoder

    settings = workspace.settings
    with workspace.making(context) as making:
        paths = _pictures(workspace)
        own = workspace.folder("shop_clip") / "model"
        if settings.image_encoder == SHOP_CLIP and not own.exists():
            # too few pictures to learn from: the items are told apart by the rest
            np.save(making.folder / VECTORS, np.zeros((len(paths), EMBEDDING_DIM), np.float32))
            making.metadata |= {"pictures": sum(path is not None for path in paths), "encoded": 0}
        else:
            encoder = ImageEncoder(own if settings.image_encoder == SHOP_CLIP else settings.image_encoder)
            vectors = encoder.encode(paths, progress=making.report)
            _reduce(workspace, vectors, making, "pictures of the catalog")
    return making.result()


def load_vectors(folder: Path) -> NDArray[np.float32]:
    """Vectors [N, D] that an asset left in its folder."""
    vectors: NDArray[np.float32] = np.load(folder / VECTORS, allow_pickle=False)
    return vectors


def _pictures(workspace: Workspace) -> list[Path | None]:
    dataset = workspace.dataset
    return [dataset.image_path(image) for image in dataset.items().column("image").to_pylist()]


def _texts(workspace: Workspace) -> list[str]:
    items = workspace.dataset.items()
    titles, descriptions = items.column("title").to_pylist(), items.column("description").to_pylist()
    return [item_text(title, description) for title, description in zip(titles, descriptions, strict=True)]


def _reduce(workspace: Workspace, vectors: NDArray[np.float32], making: Making, title: str) -> None:
    """PCA to 64, the map of the catalog, the vectors."""
    pca = Pca.fit(vectors, EMBEDDING_DIM)
    reduced = pca.transform(vectors)  # [N, 64]
    pca.save(making.folder / "pca")
    np.save(making.folder / VECTORS, reduced)
    categories = workspace.dataset.items().column("category_l1").to_pylist()
    points = embedding_map(reduced, workspace.settings.seed)
    making.metadata |= {
        "dagster/row_count": len(reduced),
        "encoder_dimensions": vectors.shape[1],
        "explained_variance": float(pca.explained.sum()),
        "map": plots.embedding_map(points, categories, title),
    }
