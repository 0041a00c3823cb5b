from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from cascade.serving.threads import limit_process, limit_torch


def test_the_process_is_bounded_by_the_libraries_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "9")
    limit_process(2)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "2"


def test_torch_is_bounded_where_it_is_loaded_and_not_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    torch = SimpleNamespace(get_num_threads=lambda: 8, set_num_threads=calls.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    limit_torch(1)
    limit_torch(8)
    assert calls == [1]
    monkeypatch.delitem(sys.modules, "torch")
    limit_torch(1)
    assert "torch" not in sys.modules
