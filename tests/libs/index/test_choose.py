"""The choice of structure and effort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.index import ExactIndex, build_index, measure_recall
from cascade.index.choose import GRAPH_UP_TO, candidates
from cascade.index.cost import PRICES, flat_microseconds, microseconds
from cascade.index.errors import IndexInputError
from cascade.index.structures import STRUCTURES, Work

COUNT, K = 40_000, 10
INVERTED = ("ivf_sq8", "ivf_pq", "ivf_flat")


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """Items around 300 centres, and queries between two of them each."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(300, 32))
    held = centres[rng.integers(300, size=COUNT)] + 0.4 * rng.normal(size=(COUNT, 32))
    asked = centres[rng.integers(300, size=(400, 2))].mean(axis=1) + 0.3 * rng.normal(size=(400, 32))
    return unit(held), unit(asked)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_target_is_reached_with_less_than_all(clustered) -> None:
    held, asked = clustered
    index, choice = build_index(held, 0.9, recall_k=K, queries=asked, threads=1, structures=INVERTED)
    assert choice.kind in STRUCTURES
    assert choice.kind == index.parameters["structure"]
    assert choice.recall >= 0.9
    assert measure_recall(index, held, asked, K) == pytest.approx(choice.recall)
    assert f"{COUNT:,} vectors" in choice.reason
    assert "target 0.90" in choice.reason
    chosen = next(trial for trial in choice.tried if trial.structure == choice.kind)
    assert chosen.reached
    assert chosen.microseconds == min(trial.microseconds for trial in choice.tried if trial.reached)
    assert chosen.microseconds <= flat_microseconds(COUNT, 32) / 2
    assert chosen.effort.items() <= index.parameters.items()
    assert all(name in choice.reason for name in INVERTED)
    json.dumps(choice.to_dict())


def test_other_queries_of_the_kind_find_it_reached(clustered) -> None:
    held, asked = clustered
    index, _ = build_index(held, 0.9, recall_k=K, queries=asked[:200], threads=1, structures=["ivf_sq8"])
    assert measure_recall(index, held, asked[200:], K) >= 0.9 - 0.02


def test_a_higher_target_costs_more(clustered) -> None:
    held, asked = clustered
    cost = []
    for target in (0.5, 0.8, 0.95):
        _, choice = build_index(held, target, recall_k=K, queries=asked, threads=1, structures=["ivf_sq8"])
        assert choice.kind == "ivf_sq8"
        cost.append(choice.tried[0].microseconds)
    assert cost == sorted(cost)
    assert cost[0] < cost[-1]


@pytest.mark.parametrize("name", ["ivf_sq8", "ivf_pq"])
def test_the_same_arguments_choose_and_build_the_same(clustered, name: str, tmp_path: Path) -> None:
    held, asked = clustered
    made = []
    for folder, threads in (("one", 1), ("two", 2)):
        index, choice = build_index(
            held, 0.7, recall_k=K, queries=asked, threads=threads, flat_up_to=0, structures=[name], seed=3
        )
        assert choice.kind == name
        index.save(tmp_path / folder)
        made.append((choice, (tmp_path / folder / "index.faiss").read_bytes()))
    assert made[0] == made[1]


def test_an_unreachable_target_is_met_by_flat(clustered) -> None:
    held, asked = clustered
    index, choice = build_index(held, 1.0, recall_k=300, queries=asked[:100], threads=1, structures=INVERTED)
    assert (choice.kind, choice.recall, index.parameters) == ("flat", 1.0, {"structure": "flat"})
    assert "nothing reaches the target" in choice.reason
    assert "ivf_sq8" in choice.reason
    assert [trial.structure for trial in choice.tried] == list(INVERTED)
    assert not any(trial.reached for trial in choice.tried)
    np.testing.assert_allclose(index.search(asked[:4], 50)[0], ExactIndex(held).search(asked[:4], 50)[0], atol=1e-4)


def test_noise_is_left_to_flat() -> None:
    """Without structure most lists hold some of the answer: nothing is gained."""
    rng = np.random.default_rng(0)
    held, asked = unit(rng.normal(size=(30_000, 64))), unit(rng.normal(size=(64, 64)))
    _, choice = build_index(held, queries=asked, threads=1, structures=["ivf_sq8"])
    assert choice.kind == "flat"
    assert "falls short" in choice.reason


def test_what_is_too_slow_at_its_least_is_said_to_be() -> None:
    """So few vectors are compared before another structure has begun."""
    held = unit(np.random.default_rng(0).normal(size=(1000, 64)))
    _, choice = build_index(held, threads=1, flat_up_to=100, structures=["ivf_flat", "hnsw"])
    assert choice.kind == "flat"
    assert choice.reason.count("too slow") == 2


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40), dim=st.integers(1, 20), k=st.integers(1, 60), limit=st.sampled_from([0, 20_000]))
def test_tiny_catalogs_are_served(count: int, dim: int, k: int, limit: int) -> None:
    held = np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)
    index, choice = build_index(held, recall_k=k, threads=1, flat_up_to=limit)
    assert choice.recall >= 0.97
    assert index.count == count
    assert index.search(held[:1], k)[1].shape == (1, k)
    assert (choice.tried == ()) == (count <= limit)


def test_no_queries_and_none_are_the_catalogs_own(clustered) -> None:
    held, _ = clustered
    empty, none = (
        build_index(held[:500], threads=1, queries=given)[1] for given in (np.empty((0, 32), np.float32), None)
    )
    assert empty == none


def test_bad_vectors_and_queries_are_refused(clustered) -> None:
    held, asked = clustered
    bad = asked.copy()
    bad[3, 1] = np.nan
    with pytest.raises(IndexInputError, match=r"queries hold NaN.*row \[3\]"):
        build_index(held, queries=bad)
    with pytest.raises(IndexInputError, match="vectors hold NaN"):
        build_index(bad)
    with pytest.raises(IndexInputError, match=r"no such structure: lsh; there are .*hnsw"):
        build_index(held, queries=asked, flat_up_to=0, structures=["lsh"])
    with pytest.raises(IndexInputError, match="32 dimensions"):
        build_index(held, queries=asked[:, :30])


def test_graphs_are_tried_up_to_a_size() -> None:
    assert set(candidates(GRAPH_UP_TO)) == set(STRUCTURES)
    assert "hnsw" not in candidates(GRAPH_UP_TO + 1)
    assert set(PRICES) == {"flat", *STRUCTURES}


def test_more_work_costs_more() -> None:
    for name in PRICES:
        little = microseconds(name, Work(100, 1000, 100), 64)
        assert little < microseconds(name, Work(100, 2000, 100), 64)
        assert little < microseconds(name, Work(100, 1000, 100), 128)
