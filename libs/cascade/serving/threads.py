"""Threads of the numeric libraries.

One thread a process keeps small forward passes from paying for synchronisation, and lets processes share the cores.
"""

from __future__ import annotations

import os
import sys

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limit_process(threads: int) -> None:
    """Bound torch, FAISS and BLAS for the whole process; call it before they are imported."""
    for variable in _VARIABLES:
        os.environ[variable] = str(threads)


def limit_torch(threads: int) -> None:
    """Bound torch where it is loaded already, for processes that serve beside other work."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
