"""The catalog as points in the plane, each with its title, its category and, where there is room, its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cascade.data.contract import Dataset
from cascade.embeddings.map import embedding_map
from cascade.evaluation_page.thumbnails import thumbnails
from cascade.features.item_table import ItemTable

MOST_ITEMS = 1000
"""Points of a map; of a larger catalog a sample is drawn."""
_TITLE = 120
"""Characters of a title that are kept."""
_FEW = 50
_PERPLEXITY = 30

CONTENT, BEHAVIOUR = "pictures and texts", "what visitors do"


class Vectors(Protocol):
    """Item vectors by place: a candidate index."""

    def reconstruct(self, position: int) -> NDArray[np.float32]: ...


class Retrieval(Protocol):
    """What is asked of a retrieval stage: its index, and which items it holds in which order."""

    @property
    def index(self) -> Vectors: ...
    @property
    def item_ids(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Point:
    """One item. x, y: in [-1, 1]; category: empty where there is none; picture: a data URI."""

    title: str
    category: str
    x: float
    y: float
    picture: str | None


@dataclass(frozen=True)
class CatalogMap:
    """points: in order of category and place; items: of the whole catalog; by: what lies near what, `CONTENT` or
    `BEHAVIOUR`; missing: what could not be drawn, and why, in sentences."""

    points: Sequence[Point] = ()
    items: int = 0
    by: str = CONTENT
    missing: Sequence[str] = field(default_factory=tuple)


def catalog_map(
    dataset: Dataset, table: ItemTable, retrieval: Retrieval, seed: int, most: int = MOST_ITEMS
) -> CatalogMap:
    """The map of a catalog: by picture and text embeddings, or else by the vectors that retrieval learned.

    seed: of the sample and of the fit; most: points
    """
    count = len(table)
    chosen = np.arange(count)
    if count > most:
        chosen = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    ids = [table.item_ids[at] for at in chosen]
    content = np.concatenate([table.image[chosen], table.text[chosen]], axis=1)
    by, vectors = (CONTENT, content) if content.any() else (BEHAVIOUR, _learned(retrieval, ids))
    missing = []
    if not vectors.any():
        return CatalogMap((), count, by, ("The map of the catalog: no item has a vector.",))
    places = neighbours(vectors, seed)
    about = _about(dataset, ids)
    pictures = thumbnails(dataset.image_path(image) for _, _, image in about)
    if by == BEHAVIOUR:
        missing.append(
            "Places by pictures and texts: none were encoded. The map shows what visitors' behaviour taught."
        )
    if not any(title for title, _, _ in about):
        missing.append("Titles on the map: the catalog has none. Item ids stand for them.")
    if not any(category for _, category, _ in about):
        missing.append("Colours of the map: the items have no category.")
    if not any(image for _, _, image in about):
        missing.append("Pictures on the map: the items have none.")
    elif not all(picture for picture, (_, _, image) in zip(pictures, about, strict=True) if image):
        drawn = sum(picture is not None for picture in pictures)
        missing.append(f"Pictures of all items on the map: {drawn:,} were read and had room in this file.")
    points = [
        Point((title or item_id)[:_TITLE], category, float(x), float(y), picture)
        for item_id, (title, category, _), (x, y), picture in zip(ids, about, places, pictures, strict=True)
    ]
    points.sort(key=lambda point: (point.category, point.x, point.y))
    return CatalogMap(points, count, by, tuple(missing))


def neighbours(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """vectors float32 [N, D] placed so that what is alike lies together: float32 [N, 2] in [-1, 1].

    t-SNE (van der Maaten and Hinton 2008) from the two strongest principal components; too few vectors for that lie on
    these components.
    """
    if len(vectors) < _FEW:
        return embedding_map(vectors, seed)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    with threadpool_limits(1):  # its threads would wait for each other longer than they work
        places = TSNE(init="pca", perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(vectors)
    middle = (places.max(axis=0) + places.min(axis=0)) / 2
    spread = np.abs(places - middle).max()
    return np.asarray((places - middle) / (spread or 1.0), np.float32)


def _learned(retrieval: Retrieval, ids: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of these items, float32 [N, D]; zeros of one that the index does not hold."""
    place = {item_id: at for at, item_id in enumerate(retrieval.item_ids)}
    zeros = np.zeros_like(retrieval.index.reconstruct(0))
    return np.stack([retrieval.index.reconstruct(place[one]) if one in place else zeros for one in ids])


def _about(dataset: Dataset, ids: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """Title, category and picture's name of each item; empty where the dataset knows nothing."""
    items = dataset.items()
    items = items.filter(pc.is_in(items.column("item_id"), pa.array(ids)))
    names = ("title", "category_l1", "image")
    rows = zip(*(items.column(name).to_pylist() for name in names), strict=True)
    known = dict(zip(items.column("item_id").to_pylist(), rows, strict=True))
    return [
        (title or "", category or "", image)
        for title, category, image in (known.get(item_id, ("", "", None)) for item_id in ids)
    ]
