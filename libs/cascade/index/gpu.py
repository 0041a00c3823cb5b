"""The same index, searched by a GPU where FAISS was built for one and one is there.

FAISS's GPU code knows flat, `ivf_flat` and `ivf_sq8`; the others, and a GPU without memory left, stay with the CPU.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from cascade.index.faiss_index import FaissIndex
from cascade.index.interface import CandidateIndex, Floats, Positions
from cascade.index.library import faiss_library

DEEPEST = 2048
"""The largest k that FAISS's GPU code answers."""

_log = logging.getLogger(__name__)


class GpuIndex(FaissIndex):
    """Searches on the GPU; saving, vectors by position and deeper searches are the CPU's."""

    def __init__(self, index: FaissIndex, moved: Any, resources: Any) -> None:
        super().__init__(index.faiss, index.threads, index.parameters)
        self.source = index.source
        self._moved = moved
        self._resources = resources  # FAISS does not keep them alive
        self._one = threading.Lock()  # nor may two threads search with the same ones

    def _search(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        if k > DEEPEST or len(queries) == 0:
            return super()._search(queries, k)
        with self._one:
            return self._padded(*self._moved.search(queries, k))


def on_gpu(index: CandidateIndex, faiss: Any = None) -> CandidateIndex:
    """The index on the first GPU; the index itself where there is none or it cannot take it.

    faiss: the library; the one installed where absent.
    """
    if not isinstance(index, FaissIndex):
        return index
    faiss = faiss_library() if faiss is None else faiss
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return index
    try:
        resources = faiss.StandardGpuResources()
        return GpuIndex(index, faiss.index_cpu_to_gpu(resources, 0, index.faiss), resources)
    except RuntimeError as error:
        _log.warning("the index %s stays with the CPU: %s", index.parameters, str(error).splitlines()[0])
        return index
