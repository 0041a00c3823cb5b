"""Tiny worlds whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cascade.features.item_table import ItemTable
from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.models import DlrmConfig, TwoTowerConfig


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class World:
    """Users and items fall into blocks; a user clicks the items of his own block alone."""

    items: ItemTable
    train: TrainingSet
    validation: TrainingSet
    block_of_item: np.ndarray
    block_of_row: np.ndarray
    two_tower: TwoTowerConfig
    dlrm: DlrmConfig


@pytest.fixture
def make_world() -> Callable[..., World]:
    def make(
        users: int = 40, items: int = 40, blocks: int = 4, rows: int = 2000, seed: int = 0, skew: float = 0.0
    ) -> World:
        rng = np.random.default_rng(seed)
        block_of_item = np.arange(items) % blocks
        position = np.arange(items)
        content = rng.normal(size=(blocks, 64)).astype(np.float32)[block_of_item] * 0.1
        table = ItemTable(
            [f"item-{n}" for n in range(items)],
            np.stack([position + 1, block_of_item + 1, block_of_item + 1, position % 3], axis=1).astype(np.int32),
            rng.normal(size=(items, 1)).astype(np.float32),
            content,
            content[:, ::-1].copy(),
        )
        weight = (1.0 / (1 + position // blocks)) ** skew

        def draw(count: int) -> tuple[TrainingSet, np.ndarray]:
            user = rng.integers(0, users, count)
            block = user % blocks
            chosen = np.empty(count, np.int32)
            for b in range(blocks):
                at = block == b
                inside = np.flatnonzero(block_of_item == b)
                chance = weight[inside] / weight[inside].sum()
                chosen[at] = rng.choice(inside, at.sum(), p=chance)
            categorical = np.stack([user + 1, user % 3, user % 7, rng.integers(0, blocks + 1, count)], axis=1)
            who = Encoded(categorical.astype(np.int32), rng.normal(size=(count, 1)).astype(np.float32))
            where = Encoded(
                rng.integers(0, 4, (count, 1)).astype(np.int32), rng.normal(size=(count, 4)).astype(np.float32)
            )
            return TrainingSet(who, where, chosen, np.arange(count, dtype=np.int64)), block

        train, _ = draw(rows)
        validation, block_of_row = draw(max(2, rows // 5))
        user_rows, item_rows = (users + 1, 3, 7, blocks + 1), (items + 1, blocks + 1, blocks + 1, 3)
        return World(
            table,
            train,
            validation,
            block_of_item,
            block_of_row,
            TwoTowerConfig(user_rows, 1, item_rows, 1),
            DlrmConfig(user_rows, item_rows, (4,), 1, 1, 4),
        )

    return make
