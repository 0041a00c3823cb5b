"""One suite for every candidate index; the exact one is the truth the others are held to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.index import CandidateIndex, ExactIndex, FaissIndex, build_index, load_index, measure_recall
from cascade.index.errors import IndexFileError, IndexFormatError, IndexInputError

Make = Callable[[np.ndarray], CandidateIndex]


@pytest.fixture(params=["exact", "faiss"])
def make(request) -> Make:
    return {"exact": ExactIndex, "faiss": lambda vectors: FaissIndex.flat(vectors, threads=1)}[request.param]


def vectors(count: int = 50, dim: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_the_nearest_come_best_first(make: Make) -> None:
    index = make(np.eye(4, dtype=np.float32))
    scores, positions = index.search(np.array([[0.1, 0.9, 0.5, 0.0]], np.float32), 3)
    assert positions.tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(scores, [[0.9, 0.5, 0.1]])
    assert scores.dtype == np.float32
    assert positions.dtype == np.int32


def test_more_than_there_are_is_padded(make: Make) -> None:
    scores, positions = make(vectors(3)).search(vectors(2, seed=1), 5)
    assert (positions[:, 3:] == -1).all()
    assert (scores[:, 3:] == -np.inf).all()
    assert sorted(positions[0, :3].tolist()) == [0, 1, 2]


def test_no_queries_give_no_rows(make: Make) -> None:
    scores, positions = make(vectors()).search(np.empty((0, 64), np.float32), 5)
    assert scores.shape == positions.shape == (0, 5)


@given(
    count=st.integers(1, 80),
    dim=st.integers(1, 16),
    queries=st.integers(1, 5),
    k=st.integers(1, 100),
    seed=st.integers(0, 2**16),
)
def test_faiss_finds_what_exact_search_finds(count: int, dim: int, queries: int, k: int, seed: int) -> None:
    held, asked = vectors(count, dim, seed), vectors(queries, dim, seed + 1)
    exact_scores, exact = ExactIndex(held).search(asked, k)
    scores, found = FaissIndex.flat(held, threads=1).search(asked, k)
    np.testing.assert_allclose(scores, exact_scores, atol=1e-4)
    assert [set(row) for row in found.tolist()] == [set(row) for row in exact.tolist()] or np.allclose(
        np.sort(scores), np.sort(exact_scores), atol=1e-4
    )


def test_vectors_come_back_by_position(make: Make) -> None:
    held = vectors()
    index = make(held)
    np.testing.assert_array_equal(index.reconstruct(7), held[7])
    for outside in (-1, 50):
        with pytest.raises(IndexInputError, match=f"position {outside}"):
            index.reconstruct(outside)


def test_saved_and_loaded_answers_are_equal(make: Make, tmp_path) -> None:
    index = make(vectors())
    index.source = "abc"
    index.save(tmp_path)
    loaded = load_index(tmp_path, threads=1)
    for before, after in zip(index.search(vectors(5, seed=2), 9), loaded.search(vectors(5, seed=2), 9), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (loaded.kind, loaded.source, loaded.parameters) == (index.kind, "abc", index.parameters)
    assert (loaded.count, loaded.dim) == (50, 64)
    assert not list(tmp_path.glob(".*"))


def test_wrong_input_is_named(make: Make) -> None:
    index = make(vectors())
    with pytest.raises(IndexInputError, match=r"shape \(1, 63\).*64 dimensions"):
        index.search(vectors(1, 63), 5)
    with pytest.raises(IndexInputError, match="k is 0"):
        index.search(vectors(1), 0)
    for bad in (np.nan, np.inf):
        query = vectors(3)
        query[1, 5] = bad
        with pytest.raises(IndexInputError, match=r"1 rows, the first is row \[1\]"):
            index.search(query, 5)
        with pytest.raises(IndexInputError, match="NaN or infinity"):
            make(query)


@pytest.mark.parametrize("damage", ["absent", "no data", "truncated", "kind", "count", "json"])
def test_damaged_folders_are_refused(make: Make, tmp_path, damage: str) -> None:
    index = make(vectors())
    if damage != "absent":
        index.save(tmp_path)
    header = tmp_path / "index.json"
    data = next((p for p in tmp_path.iterdir() if p != header), None)
    if damage == "no data":
        data.unlink()
    elif damage == "truncated":
        data.write_bytes(data.read_bytes()[:100])
    elif damage in ("kind", "count"):
        header.write_text(json.dumps({**json.loads(header.read_text()), damage: 3}))
    elif damage == "json":
        header.write_text("[]")
    with pytest.raises(IndexFileError):
        load_index(tmp_path)


def test_a_newer_format_is_refused(tmp_path) -> None:
    ExactIndex(vectors()).save(tmp_path)
    header = tmp_path / "index.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "format": 9}))
    with pytest.raises(IndexFormatError, match="format 9"):
        CandidateIndex.load(tmp_path)


def test_recall_counts_what_is_missed() -> None:
    class Forgetful(ExactIndex):
        """Never finds the best."""

        def _search(self, queries, k):
            scores, positions = super()._search(queries, k + 1)
            return scores[:, 1:], positions[:, 1:]

    held, asked = vectors(100), vectors(10, seed=3)
    assert measure_recall(ExactIndex(held), held, asked, 10) == 1.0
    assert measure_recall(Forgetful(held), held, asked, 10) == pytest.approx(0.9)


def test_the_choice_says_why() -> None:
    index, choice = build_index(vectors(), source="tower", threads=1)
    assert (choice.kind, choice.recall, choice.recall_k) == ("flat", 1.0, 300)
    assert "50 vectors" in choice.reason
    assert "target 0.97" in choice.reason
    assert index.source == "tower"
    assert index.search(vectors(1), 300)[1].shape == (1, 300)


def test_threads_of_a_search_are_put_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    FaissIndex.flat(vectors(), threads=1).search(vectors(2), 3)
    assert faiss.omp_get_max_threads() == before


def test_one_index_answers_several_threads() -> None:
    index = FaissIndex.flat(vectors(500), threads=1)
    asked = vectors(8, seed=4)
    expected = index.search(asked, 10)[1]
    answers: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: answers.append(index.search(asked, 10)[1])) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(answers) == 4
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("first", ["torch", "faiss"])
def test_torch_and_faiss_share_a_process(first: str) -> None:
    second = {"torch": "faiss", "faiss": "torch"}[first]
    code = (
        f"import {first}, {second}, numpy as np, torch\n"
        "from cascade.index import FaissIndex\n"
        "v = np.random.default_rng(0).normal(size=(2000, 64)).astype('float32')\n"
        "index = FaissIndex.flat(v, threads=2)\n"
        "for _ in range(5):\n"
        "    x = torch.randn(300, 300, requires_grad=True); (x @ x).sum().backward()\n"
        "    index.search(v[:8], 10)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_index_does_not_load_faiss() -> None:
    code = "import sys, cascade.index; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
