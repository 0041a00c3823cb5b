"""What a bundle of each service holds, and how it is written and read.

One class a service: `save` is the build's side, `load` the service's, so that a layout is described once.
Imports are those of the service alone: the gateway's bundle needs neither torch nor FAISS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.drift.reference import Reference
from cascade.features.item_table import ItemTable
from cascade.features.popularity import Popularity
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.store.errors import BundleCorrupt
from cascade.store.lineage import INDEX, QUERY_TOWER, require_same_tower

if TYPE_CHECKING:
    from cascade.index.interface import CandidateIndex
    from cascade.models.affinity import ItemAffinity
    from cascade.models.dlrm import Dlrm
    from cascade.models.dlrm_scorer import Scorer
    from cascade.models.query_encoder import QueryEncoder
    from cascade.models.two_tower import Mode, QueryTower

PRECOMPUTE_BYTES = 4 * 2**30
"""for a ranker's precomputed items where nothing else is said: 2.6 million at the default sizes"""

_USER, _CONTEXT = "user_transform", "context_transform"
_ITEM_IDS, _ITEM_VECTORS = "item_ids.parquet", "item_vectors.npy"
_DLRM, _ITEMS = "dlrm", "items"
_CATALOG, _POPULARITY = "catalog.parquet", "popularity.json"

CATALOG_COLUMNS = (
    "item_id",
    "title",
    "description",
    "category_l1",
    "category_l2",
    "price",
    "gender",
    "image",
)


@dataclass(frozen=True)
class RetrievalArtifacts:
    """The retrieval service's bundle.

    item_ids: in the index's order
    device: where the query tower serves: auto, cpu or cuda
    context_transform: of the moment; a query tower of mode static has none
    item_vectors: float32 [items, dim] of the candidate tower, exact where the index may have rounded them; what a query
        tower of mode session reads of the items that a user met. Mapped from the bundle, not held
    reference: how inputs and scores were distributed in training; None in bundles of before there was one
    """

    user_transform: UserTransform
    query_tower: QueryTower
    index: CandidateIndex
    item_ids: list[str]
    device: str = "auto"
    context_transform: ContextTransform | None = None
    item_vectors: NDArray[np.float32] | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        require_same_tower(self.query_tower.candidate_fingerprint, self.index.source)
        if len(self.item_ids) != self.index.count:
            raise BundleCorrupt(f"{len(self.item_ids)} item ids for an index of {self.index.count} vectors")
        mode = self.mode
        if mode != "static" and self.context_transform is None:
            raise BundleCorrupt(f"a query tower of mode {mode} without a context transform; bundle both")
        if mode == "session" and self.item_vectors is None:
            raise BundleCorrupt("a query tower of mode session without the items' vectors; bundle both")
        if self.item_vectors is not None and self.item_vectors.shape != (self.index.count, self.index.dim):
            raise BundleCorrupt(
                f"item vectors of shape {self.item_vectors.shape} beside an index of {self.index.count} vectors of "
                f"dimension {self.index.dim}"
            )

    @property
    def mode(self) -> Mode:
        """What the query tower reads: static, context or session."""
        return self.query_tower.config.mode

    @cached_property
    def positions(self) -> dict[str, int]:
        """Item id → position in the index."""
        return {item_id: position for position, item_id in enumerate(self.item_ids)}

    @cached_property
    def id_array(self) -> NDArray[np.object_]:
        """Item ids by position: hundreds are taken in one gather."""
        return np.array(self.item_ids, object)

    @cached_property
    def encoder(self) -> QueryEncoder:
        """Users to vectors, as the service asks. Raises DeviceError."""
        from cascade.models.device import choose_device
        from cascade.models.query_encoder import make_encoder

        return make_encoder(self.query_tower, choose_device(self.device))

    @property
    def lineage(self) -> dict[str, str]:
        """For the manifest."""
        parts = {"candidate_tower": str(self.index.source), "user_transform": self.user_transform.version}
        if self.context_transform is not None:
            parts["context_transform"] = self.context_transform.version
        return {**parts, "query": self.mode}

    def save(self, folder: Path) -> None:
        """Write the parts into `folder`."""
        self.user_transform.save(folder / _USER)
        self.query_tower.save(folder / QUERY_TOWER)
        self.index.save(folder / INDEX)
        pq.write_table(pa.table({"item_id": self.item_ids}), folder / _ITEM_IDS)
        if self.context_transform is not None:
            self.context_transform.save(folder / _CONTEXT)
        if self.item_vectors is not None:
            np.save(folder / _ITEM_VECTORS, self.item_vectors, allow_pickle=False)
        if self.reference is not None:
            self.reference.save(folder)

    @classmethod
    def load(cls, folder: Path, threads: int | None = None, device: str = "auto") -> RetrievalArtifacts:
        """Read the parts. Raises LineageMismatch where query tower and index are foreign to each other."""
        from cascade.index.interface import CandidateIndex
        from cascade.models.two_tower import QueryTower

        return cls(
            UserTransform.load(folder / _USER),
            QueryTower.load(folder / QUERY_TOWER),
            CandidateIndex.load(folder / INDEX, threads),
            pq.read_table(folder / _ITEM_IDS).column("item_id").to_pylist(),
            device,
            # Bundles of before there were modes have neither.
            ContextTransform.load(folder / _CONTEXT) if (folder / _CONTEXT).is_dir() else None,
            _mapped(folder / _ITEM_VECTORS) if (folder / _ITEM_VECTORS).is_file() else None,
            Reference.load(folder),
        )


@dataclass(frozen=True)
class RankerArtifacts:
    """The ranker's bundle.

    device: where it serves: auto, cpu or cuda
    precompute_bytes: memory allowed for what is computed of each item beforehand; where the items need more, every
    request computes it anew
    reference: as above
    """

    user_transform: UserTransform
    context_transform: ContextTransform
    items: ItemTable
    dlrm: Dlrm
    device: str = "auto"
    precompute_bytes: int = PRECOMPUTE_BYTES
    reference: Reference | None = None

    @cached_property
    def scorer(self) -> Scorer:
        """Click probabilities of a request's candidates, as the service asks. Raises DeviceError."""
        from cascade.models.device import choose_device
        from cascade.models.dlrm_scorer import make_scorer

        return make_scorer(self.dlrm, self.items, choose_device(self.device), self.precompute_bytes)

    @cached_property
    def affinity(self) -> ItemAffinity | None:
        """The retrieval model's part of the logits over these items; None where the ranker has none."""
        return self.dlrm.affinity_over(self.items)

    @property
    def lineage(self) -> dict[str, str]:
        """For the manifest."""
        return {
            "items": self.items.fingerprint,
            "user_transform": self.user_transform.version,
            "context_transform": self.context_transform.version,
            "history": str(self.dlrm.config.history_length),
        }

    def save(self, folder: Path) -> None:
        """Write the parts into `folder`."""
        self.user_transform.save(folder / _USER)
        self.context_transform.save(folder / _CONTEXT)
        self.items.save(folder / _ITEMS)
        self.dlrm.save(folder / _DLRM)
        if self.reference is not None:
            self.reference.save(folder)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", precompute_bytes: int = PRECOMPUTE_BYTES) -> RankerArtifacts:
        """Read the parts."""
        from cascade.models.dlrm import Dlrm

        return cls(
            UserTransform.load(folder / _USER),
            ContextTransform.load(folder / _CONTEXT),
            ItemTable.load(folder / _ITEMS),
            Dlrm.load(folder / _DLRM),
            device,
            precompute_bytes,
            Reference.load(folder),
        )


@dataclass(frozen=True)
class GatewayArtifacts:
    """The gateway's bundle: what a shop shows of each item, and popularity for answers without the models.

    items: item id → its row (CATALOG_COLUMNS), in the catalog's order
    """

    items: dict[str, dict[str, Any]]
    popularity: Popularity

    def save(self, folder: Path) -> None:
        """Write the parts into `folder`."""
        rows = list(self.items.values())
        table = pa.table({name: [row[name] for row in rows] for name in CATALOG_COLUMNS})
        pq.write_table(table, folder / _CATALOG)
        self.popularity.save(folder / _POPULARITY)

    @classmethod
    def from_catalog(cls, items: pa.Table, popularity: Popularity) -> GatewayArtifacts:
        """From a dataset's items table."""
        rows = items.select(list(CATALOG_COLUMNS)).to_pylist()
        return cls({row["item_id"]: row for row in rows}, popularity)

    @classmethod
    def load(cls, folder: Path) -> GatewayArtifacts:
        """Read the parts."""
        return cls.from_catalog(pq.read_table(folder / _CATALOG), Popularity.load(folder / _POPULARITY))


def _mapped(path: Path) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise BundleCorrupt(f"{path} is no array ({error}); build the bundle again") from error
    if array.dtype != np.float32 or array.ndim != 2:
        raise BundleCorrupt(f"{path} holds {array.dtype} {array.shape}, expected float32 vectors")
    return array
