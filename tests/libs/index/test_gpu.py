"""Moving an index to a GPU, with a stand-in for FAISS's GPU code: what is there to test without one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cascade.index import ExactIndex, FaissIndex, load_index
from cascade.index.gpu import DEEPEST, GpuIndex, on_gpu

HELD = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)


def library(gpus: int = 1, move=lambda resources, device, index: index) -> SimpleNamespace:
    return SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: gpus, index_cpu_to_gpu=move)


def index() -> FaissIndex:
    made = FaissIndex.flat(HELD, threads=1)
    made.source = "tower"
    return made


def test_without_a_gpu_the_index_stays_as_it_is() -> None:
    exact, flat = ExactIndex(HELD), index()
    assert on_gpu(exact) is exact
    assert on_gpu(flat, library(gpus=0)) is flat
    assert on_gpu(flat, SimpleNamespace()) is flat


def test_what_the_gpu_cannot_take_stays_with_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("not implemented for GPU\nat line 1")

    flat = index()
    assert on_gpu(flat, library(move=refuse)) is flat
    assert "stays with the CPU: not implemented for GPU" in caplog.text


def test_the_gpu_searches_and_the_rest_is_the_cpus(tmp_path) -> None:
    asked: list[int] = []

    def move(resources: object, device: int, inside: object) -> object:
        def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            asked.append(k)
            scores, positions = inside.search(queries, k)
            return scores, positions

        return SimpleNamespace(search=search)

    flat = index()
    moved = on_gpu(flat, library(move=move))
    assert isinstance(moved, GpuIndex)
    assert (moved.source, moved.count, moved.dim, moved.parameters) == ("tower", 3000, 16, flat.parameters)
    for k in (5, DEEPEST, DEEPEST + 1, 3100):
        for ours, theirs in zip(moved.search(HELD[:3], k), flat.search(HELD[:3], k), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert asked == [5, DEEPEST]
    assert moved.search(np.empty((0, 16), np.float32), 5)[1].shape == (0, 5)
    np.testing.assert_array_equal(moved.reconstruct(7), HELD[7])
    moved.save(tmp_path)
    assert load_index(tmp_path, 1).source == "tower"
