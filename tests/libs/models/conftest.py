from __future__ import annotations

import numpy as np
import pytest
import torch

from cascade.models import DlrmConfig, TwoTowerConfig


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def two_tower_config() -> TwoTowerConfig:
    return TwoTowerConfig(
        user_cardinalities=(11, 4, 7, 5),
        user_continuous=1,
        item_cardinalities=(21, 5, 6, 4),
        item_continuous=1,
        image_dim=8,
        text_dim=6,
    )


@pytest.fixture
def dlrm_config() -> DlrmConfig:
    return DlrmConfig(
        user_cardinalities=(11, 4, 7, 5),
        item_cardinalities=(21, 5, 6, 4),
        context_cardinalities=(4,),
        user_continuous=1,
        item_continuous=1,
        context_continuous=4,
        image_dim=8,
        text_dim=6,
    )


@pytest.fixture
def draw():
    """Random inputs of given cardinalities and widths."""
    rng = np.random.default_rng(5)

    def inputs(rows: int, cardinalities: tuple[int, ...], *widths: int):
        categorical = np.stack([rng.integers(0, n, rows) for n in cardinalities], axis=1).astype(np.int32)
        return (categorical, *(rng.normal(size=(rows, width)).astype(np.float32) for width in widths))

    return inputs
