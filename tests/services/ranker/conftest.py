"""Small real bundles for the ranker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from cascade.features.item_table import ItemTable
from cascade.features.spec import EVENT_TYPES
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts

USERS, ITEMS = 40, 50


def build(seed: int = 0, history_length: int = 0) -> RankerArtifacts:
    users = pa.table(
        {
            "user_id": [f"u{i}" for i in range(USERS)],
            "age": [18 + i for i in range(USERS)],
            "gender": ["F" if i % 2 else "M" for i in range(USERS)],
        }
    )
    catalog = pa.table(
        {
            "item_id": [f"i{i}" for i in range(ITEMS)],
            "category_l1": [("shoes", "dresses")[i % 2] for i in range(ITEMS)],
            "category_l2": [f"style{i % 5}" for i in range(ITEMS)],
            "price": [5.0 + i for i in range(ITEMS)],
            "gender": [("F", "M", "any")[i % 3] for i in range(ITEMS)],
        }
    )
    user = UserTransform.fit(users, ["shoes", "dresses"])
    item = ItemTransform.fit(catalog, catalog.column("item_id").to_pylist())
    context = ContextTransform.fit(pa.table({"device_type": ["mobile", "desktop"]}))
    rng = np.random.default_rng(seed)
    image, text = (rng.standard_normal((ITEMS, 64)).astype(np.float32) for _ in range(2))
    torch.manual_seed(seed)
    config = DlrmConfig(
        user.cardinalities, item.cardinalities, context.cardinalities, 1, 1, 4,
        history_length=history_length, history_event_types=len(EVENT_TYPES) + 1,
    )  # fmt: skip
    return RankerArtifacts(user, context, ItemTable.build(catalog, item, image, text), Dlrm(config).eval())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As the service runs; more would fight the other tests for the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def bundle() -> RankerArtifacts:
    return build()


@pytest.fixture
def reader() -> RankerArtifacts:
    """One that reads the latest ten events."""
    return build(history_length=10)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def publish(store: ModelStore) -> Callable[[int], str]:
    """Writes a bundle made from a seed and points `stable` at it; returns its version."""

    def write(seed: int) -> str:
        version = store.write("ranker", build(seed).save, training_days=[date(2026, 1, 1 + seed)]).version
        store.set_alias("ranker", "stable", version)
        return version

    return write
