"""Small real bundles for the retrieval service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from cascade.features.transforms import UserTransform
from cascade.index.faiss_index import FaissIndex
from cascade.models.two_tower import QueryTower, TwoTowerConfig
from cascade.store import ModelStore
from cascade.store.artifacts import RetrievalArtifacts

USERS, ITEMS = 40, 50


def build(seed: int = 0, items: int = ITEMS) -> RetrievalArtifacts:
    people = pa.table(
        {
            "user_id": [f"u{i}" for i in range(USERS)],
            "age": [18 + i for i in range(USERS)],
            "gender": ["F" if i % 2 else "M" for i in range(USERS)],
        }
    )
    transform = UserTransform.fit(people, ["shoes", "dresses"])
    torch.manual_seed(seed)
    tower = QueryTower(TwoTowerConfig(transform.cardinalities, 1, (items + 1,), 1)).eval()
    tower.candidate_fingerprint = "tower"
    vectors = np.random.default_rng(seed).standard_normal((items, 64)).astype(np.float32)
    index = FaissIndex.flat(vectors, 1)
    index.source = "tower"
    return RetrievalArtifacts(transform, tower, index, [f"i{i}" for i in range(items)])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As the service runs; more would fight the other tests for the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def bundle() -> RetrievalArtifacts:
    return build()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def publish(store: ModelStore) -> Callable[[int], str]:
    """Writes a bundle made from a seed and points `stable` at it; returns its version."""

    def write(seed: int) -> str:
        version = store.write("retrieval", build(seed).save, training_days=[date(2026, 1, 1 + seed)]).version
        store.set_alias("retrieval", "stable", version)
        return version

    return write
