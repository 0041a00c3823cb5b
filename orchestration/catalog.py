"""The items that can be recommended, and a query tower put together with what it needs to find them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.features.item_table import ItemTable
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.store.artifacts import RetrievalArtifacts
from orchestration.assets.embeddings import load_vectors
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from cascade.index.interface import CandidateIndex
    from cascade.models.two_tower import QueryTower


@dataclass(frozen=True)
class Catalog:
    """The items of the full training, or with what joined and left since.

    vectors: the folder with the candidate tower's vectors of the items, in their order
    """

    items: ItemTable
    index: CandidateIndex
    vectors: Path


def full_catalog(workspace: Workspace) -> Catalog:
    """The items of the full training, whatever joined since."""
    from cascade.index.interface import CandidateIndex

    return Catalog(
        ItemTable.load(workspace.folder("item_table")),
        CandidateIndex.load(workspace.folder("candidate_index")),
        workspace.folder("item_vectors"),
    )


def retrieval_parts(workspace: Workspace, query: QueryTower, catalog: Catalog) -> RetrievalArtifacts:
    """A query tower with what serves beside it, as far as its mode reads it."""
    mode = query.config.mode
    return RetrievalArtifacts(
        UserTransform.load(workspace.folder("user_transform")),
        query,
        catalog.index,
        catalog.items.item_ids,
        context_transform=None if mode == "static" else ContextTransform.load(workspace.folder("context_transform")),
        item_vectors=load_vectors(catalog.vectors) if mode == "session" else None,
    )
