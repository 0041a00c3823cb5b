"""What an index can look like inside when comparing all vectors one by one takes too long.

| name | inside | a search compares |
| --- | --- | --- |
| `ivf_flat` | lists around k-means centres, vectors whole | the `nprobe` lists nearest to the query |
| `ivf_sq8` | the same, 8 bits a dimension | likewise, a quarter of the bytes |
| `ivf_pq` | the same, 2 bits a dimension by product quantisation with in-register tables, and 8 bits a dimension to re-score | likewise, then `k_factor_rf` × k of the best again |
| `hnsw` | a graph of near neighbours, vectors whole | what lies on the way, `efSearch` kept in sight |
| `hnsw_sq8` | the same, 8 bits a dimension | likewise |

Inverted file and product quantisation: Jégou, Douze, Schmid, 2011. In-register tables: André, Kermarrec, Le Scouarnec,
2017. HNSW: Malkov, Yashunin, 2018. Every build is a function of vectors and seed alone: k-means and graph take seeds,
and the graph, which several threads would make in the order of their luck, is built by one.
"""  # noqa: E501

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.index.faiss_index import FaissIndex
from cascade.index.interface import Floats
from cascade.index.library import faiss_library, omp_threads

Effort = Mapping[str, int]

PROBES, SIGHT, RESCORED = "nprobe", "efSearch", "k_factor_rf"


@dataclass(frozen=True)
class Work:
    """What one search does, averaged over queries; counted, not timed."""

    centres: float = 0.0
    """comparisons with the centres of lists"""
    compared: float = 0.0
    """comparisons with what the structure holds of a vector"""
    rescored: float = 0.0
    """second comparisons, each somewhere else in memory"""


@dataclass(frozen=True, eq=False)
class Stuff:
    """What indexes are built of. Several built of one share their centres, the longest part of the work.

    vectors: float32 [N, D]; threads: of the build, and of the searches of what is built
    """

    vectors: Floats
    seed: int = 0
    threads: int | None = None
    _centres: dict[int, Any] = field(default_factory=dict)

    @property
    def sample(self) -> Floats:
        """The vectors that an encoding is trained on: every so many-th; a few again and again, for FAISS wants 16."""
        some = self.vectors[:: max(1, len(self.vectors) // ENCODING_SAMPLE)]
        return some if len(some) >= 16 else np.resize(some, (16, some.shape[1]))

    def centres(self, lists: int) -> Any:
        """A FAISS index of so many centres: spherical k-means, since the metric is the inner product."""
        if lists not in self._centres:
            faiss, dim = faiss_library(), self.vectors.shape[1]
            kmeans = faiss.Kmeans(
                dim, lists, niter=ROUNDS, seed=self.seed, spherical=True,
                max_points_per_centroid=POINTS_A_CENTRE, min_points_per_centroid=1,
            )  # fmt: skip
            kmeans.train(self.vectors)
            self._centres[lists] = faiss.IndexFlatIP(dim)
            self._centres[lists].add(kmeans.centroids)
        return self._centres[lists]


class Structure(ABC):
    """One kind of index: how it is built, how hard it can be made to look, and what that costs."""

    name: str

    @abstractmethod
    def build(self, stuff: Stuff) -> FaissIndex:
        """An index of the vectors."""

    @abstractmethod
    def efforts(self, index: FaissIndex, k: int) -> list[list[Effort]]:
        """Ladders of search parameters, each from little to much; recall rises along each."""

    @abstractmethod
    def work(self, index: FaissIndex, queries: Floats, k: int) -> Work:
        """What a search for k does at the index's present effort."""


class Inverted(Structure):
    """Lists of vectors around centres; `lists` of them, or 4 √N."""

    def __init__(self, lists: int | None = None) -> None:
        self._lists = lists

    def lists(self, count: int) -> int:
        """How many for this many vectors: as many centres to compare as vectors in some lists."""
        return max(1, min(count, self._lists or round(4 * math.sqrt(count))))

    def build(self, stuff: Stuff) -> FaissIndex:
        """k-means over a sample, then every vector into the list of its nearest centre."""
        lists = self.lists(len(stuff.vectors))
        with omp_threads(stuff.threads):
            index = self._filled(stuff, stuff.centres(lists))
        return FaissIndex(index, stuff.threads, {"structure": self.name, "lists": lists, PROBES: 1})

    def efforts(self, index: FaissIndex, k: int) -> list[list[Effort]]:
        """More and more probes."""
        return [[{PROBES: probes} for probes in ladder(1, int(inverted_file(index).nlist))]]

    def work(self, index: FaissIndex, queries: Floats, k: int) -> Work:
        """All centres, and the vectors of the lists that the queries choose."""
        inside = inverted_file(index)
        _, chosen = inside.quantizer.search(queries, int(inside.nprobe))
        compared = list_sizes(inside)[chosen].sum(axis=1).mean()
        return Work(centres=float(inside.nlist), compared=float(compared))

    def _filled(self, stuff: Stuff, centres: Any) -> Any:
        index = self._empty(stuff.vectors.shape[1], centres)
        index.train(stuff.sample)  # the encoding alone: the centres are there
        index.add(stuff.vectors)
        index.set_direct_map_type(faiss_library().DirectMap.Array)  # where a position lies: reconstruct needs it
        return index

    @abstractmethod
    def _empty(self, dim: int, centres: Any) -> Any: ...


class InvertedFlat(Inverted):
    """Vectors whole."""

    name = "ivf_flat"

    def _empty(self, dim: int, centres: Any) -> Any:
        faiss = faiss_library()
        return faiss.IndexIVFFlat(centres, dim, centres.ntotal, faiss.METRIC_INNER_PRODUCT)


class InvertedScalar(Inverted):
    """8 bits a dimension, of the difference to the list's centre."""

    name = "ivf_sq8"

    def _empty(self, dim: int, centres: Any) -> Any:
        faiss = faiss_library()
        kind = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(centres, dim, centres.ntotal, kind, faiss.METRIC_INNER_PRODUCT, True)


class InvertedProduct(Inverted):
    """4 bits for two dimensions, compared in registers; the best are compared again by 8 bits a dimension.

    Odd dimensions take 4 bits each.
    """

    name = "ivf_pq"

    def efforts(self, index: FaissIndex, k: int) -> list[list[Effort]]:
        """More and more probes, each with a few widths of the second look."""
        probes = ladder(1, int(inverted_file(index).nlist))
        widths = [wide for wide in WIDTHS if wide * k <= index.count] or [1]
        return [[{RESCORED: wide, PROBES: count} for count in probes] for wide in widths]

    def work(self, index: FaissIndex, queries: Floats, k: int) -> Work:
        """As other inverted files, and the second look."""
        first = super().work(index, queries, k)
        return Work(first.centres, first.compared, min(first.compared, float(index.faiss.k_factor) * k))

    def _filled(self, stuff: Stuff, centres: Any) -> Any:
        faiss, dim = faiss_library(), stuff.vectors.shape[1]
        base = self._empty(dim, centres)
        again = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        base.train(stuff.sample)
        again.train(stuff.sample)
        both = faiss.IndexRefine(base, again)
        both.add(stuff.vectors)
        return both

    def _empty(self, dim: int, centres: Any) -> Any:
        faiss = faiss_library()
        parts = dim // 2 if dim % 2 == 0 else dim
        base = faiss.IndexIVFPQFastScan(centres, dim, centres.ntotal, parts, 4, faiss.METRIC_INNER_PRODUCT)
        base.by_residual = True  # of the difference to the centre: recall 0.97 where whole vectors gave 0.94
        base.pq.cp.min_points_per_centroid = 1
        return base


class Graph(Structure):
    """HNSW of `links` neighbours a vector, built by looking at `build_sight` of them."""

    name = "hnsw"

    def __init__(self, links: int = 16, build_sight: int = 60) -> None:
        self.links = links
        self.build_sight = build_sight

    def build(self, stuff: Stuff) -> FaissIndex:
        """One vector after the other, by one thread: the same vectors give the same graph."""
        with omp_threads(1):
            index = self._empty(stuff.vectors.shape[1])
            index.hnsw.efConstruction = self.build_sight
            index.hnsw.rng = faiss_library().RandomGenerator(stuff.seed)
            if not index.is_trained:
                index.train(stuff.sample)
            index.add(stuff.vectors)
        described: dict[str, int | float | str] = {
            "structure": self.name,
            "links": self.links,
            "efConstruction": self.build_sight,
        }
        return FaissIndex(index, stuff.threads, {**described, SIGHT: int(index.hnsw.efSearch)})

    def efforts(self, index: FaissIndex, k: int) -> list[list[Effort]]:
        """More and more in sight; fewer than k would not do, and beyond 16 k a graph is no shortcut."""
        return [[{SIGHT: sight} for sight in ladder(k, max(16 * k, 256))]]

    def work(self, index: FaissIndex, queries: Floats, k: int) -> Work:
        """FAISS counts the comparisons."""
        stats = faiss_library().cvar.hnsw_stats
        before = stats.ndis
        index.search(queries, k)
        return Work(compared=float((stats.ndis - before) / max(1, len(queries))))

    def _empty(self, dim: int) -> Any:
        faiss = faiss_library()
        return faiss.IndexHNSWFlat(dim, self.links, faiss.METRIC_INNER_PRODUCT)


class ScalarGraph(Graph):
    """The same graph, 8 bits a dimension."""

    name = "hnsw_sq8"

    def _empty(self, dim: int) -> Any:
        faiss = faiss_library()
        return faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, self.links, faiss.METRIC_INNER_PRODUCT)


WIDTHS = (2, 3, 5)
"""Times k that `ivf_pq` looks at again, each tried."""
ENCODING_SAMPLE = 65_536
"""Vectors, about, that an encoding is trained on."""
POINTS_A_CENTRE = 64
"""Vectors, at most, that k-means sees for each list."""
ROUNDS = 10
"""Of k-means."""


def inverted_file(index: FaissIndex) -> Any:
    """The inverted file inside."""
    return faiss_library().extract_index_ivf(index.faiss)


def list_sizes(inside: Any) -> NDArray[np.int64]:
    """Vectors in each list."""
    return np.array([inside.invlists.list_size(number) for number in range(inside.nlist)], np.int64)


def ladder(least: int, most: int, step: float = 1.15) -> list[int]:
    """Whole numbers from least to most, each about `step` times the one before."""
    found, value = [least], float(least)
    while found[-1] < most:
        value = max(value * step, value + 1)
        found.append(min(most, round(value)))
    return found


STRUCTURES: Mapping[str, Structure] = {
    one.name: one for one in (InvertedScalar(), InvertedProduct(), InvertedFlat(), Graph(), ScalarGraph())
}
"""By name."""
