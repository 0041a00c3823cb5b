"""Tiny worlds whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from cascade.data.contract import Dataset
from cascade.data.generator import SIZES, Shop, generate
from cascade.features.item_table import ItemTable
from cascade.features.point_in_time import training_rows
from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index import CandidateIndex, ExactIndex
from cascade.models import Dlrm, DlrmConfig, QueryTower, TwoTowerConfig
from cascade.models.two_tower import CandidateTower
from cascade.training.dlrm_training import DlrmTraining, train_dlrm
from cascade.training.loop import LoopConfig
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower


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


@dataclass(frozen=True)
class Retrieval:
    user_transform: UserTransform
    query_tower: QueryTower
    index: CandidateIndex
    item_ids: list[str]


@dataclass(frozen=True)
class Ranker:
    user_transform: UserTransform
    context_transform: ContextTransform
    items: ItemTable
    dlrm: Dlrm


@dataclass(frozen=True)
class Built:
    dataset: Dataset
    shop: Shop
    retrieval: Retrieval
    ranker: Ranker
    tower: CandidateTower


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The tiny generated shop, with small models trained on its first four days."""
    root = tmp_path_factory.mktemp("shop")
    shop = generate(root / "data", SIZES["tiny"])
    dataset = Dataset(root / "data")
    days = dataset.days()[:4]
    training_rows(dataset, days, root / "rows.parquet")
    interactions, items = dataset.interactions(days), dataset.items()
    users = dataset.users()
    users = users.filter(pc.is_in(users.column("user_id"), pc.unique(interactions.column("user_id"))))
    user = UserTransform.fit(users, pc.unique(items.column("category_l1")).to_pylist())
    item = ItemTransform.fit(items, pc.unique(interactions.column("item_id")).to_pylist())
    context = ContextTransform.fit(interactions)
    # content: which category an item is of
    l1 = np.unique(items.column("category_l1").to_pylist(), return_inverse=True)[1]
    content = np.eye(64, dtype=np.float32)[l1 % 64]
    table = ItemTable.build(items, item, content, content)
    rows = TrainingSet.build(root / "rows.parquet", user, context, table)
    towers, _ = train_two_tower(
        rows,
        None,
        table,
        TwoTowerConfig(user.cardinalities, 1, item.cardinalities, 1),
        TwoTowerTraining(loop=LoopConfig(epochs=4, batch=256)),
        threads=1,
    )
    dlrm, _ = train_dlrm(
        rows,
        None,
        table,
        DlrmConfig(user.cardinalities, item.cardinalities, context.cardinalities, 1, 1, 4),
        DlrmTraining(loop=LoopConfig(epochs=2, batch=256)),
        threads=1,
    )
    # The index holds the catalog backwards: evaluation must not confuse the two orders.
    vectors = towers.candidate.predict(table.categorical, table.continuous, table.image, table.text)[::-1]
    index = ExactIndex(vectors)
    index.source = towers.candidate.fingerprint()
    return Built(
        dataset,
        shop,
        Retrieval(user, towers.query, index, table.item_ids[::-1]),
        Ranker(user, context, table, dlrm),
        towers.candidate,
    )
