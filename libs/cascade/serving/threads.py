"""Threads of the numeric libraries.

One thread a process keeps small forward passes from paying for synchronisation, and lets processes share the cores.
"""

from __future__ import annotations

import os
import sys

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limit_threads(count: int) -> None:
    """Bound the threads of torch, FAISS and BLAS for the calling thread and those started after.

    Works before those libraries are imported (through their variables) and after (through their own calls); imports
    neither.
    """
    for variable in _VARIABLES:
        os.environ[variable] = str(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    faiss = sys.modules.get("faiss")
    if faiss is not None:
        faiss.omp_set_num_threads(count)
