"""Bundles of any size with random content: what a stage costs does not depend on what its weights say."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cascade.features.item_table import ItemTable
from cascade.features.spec import EVENT_TYPES, HISTORY_LENGTH
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index.faiss_index import FaissIndex
from cascade.models import QueryTower, TwoTowerConfig
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts

USERS = 50_000
CATEGORIES_L1, CATEGORIES_L2 = 12, 60
CANDIDATES = 300
AT = 1_767_600_000


@dataclass(frozen=True)
class Shop:
    """What bundles of one catalog share."""

    user: UserTransform
    context: ContextTransform
    items: ItemTable


def shop(items: int, seed: int) -> Shop:
    """A catalog of this many items with random features, and 50,000 users."""
    rng = np.random.default_rng(seed)
    catalog = pa.table(
        {
            "item_id": [f"item-{item:09d}" for item in range(items)],
            "category_l1": np.char.add("category-", rng.integers(0, CATEGORIES_L1, items).astype(str)),
            "category_l2": np.char.add("style-", rng.integers(0, CATEGORIES_L2, items).astype(str)),
            "price": rng.lognormal(3, 1, items).round(2),
            "gender": rng.choice(["F", "M", "any"], items),
        }
    )
    users = pa.table(
        {
            "user_id": [f"user-{user:09d}" for user in range(USERS)],
            "age": rng.integers(15, 80, USERS),
            "gender": rng.choice(["F", "M"], USERS),
        }
    )
    transform = ItemTransform.fit(catalog, catalog.column("item_id"))
    image, text = (0.1 * rng.standard_normal((items, 64), np.float32) for _ in range(2))
    return Shop(
        UserTransform.fit(users, [f"category-{n}" for n in range(CATEGORIES_L1)]),
        ContextTransform.fit(pa.table({"device_type": ["mobile", "desktop", "tablet"]})),
        ItemTable.build(catalog, transform, image, text),
    )


def ranker(content: Shop, seed: int, **options: Any) -> RankerArtifacts:
    """An untrained ranker over the shop."""
    torch.manual_seed(seed)
    cardinalities = [int(column.max()) + 1 for column in content.items.categorical.T]
    config = DlrmConfig(
        content.user.cardinalities, tuple(cardinalities), content.context.cardinalities, 1, 1, 4,
        history_length=HISTORY_LENGTH, history_event_types=len(EVENT_TYPES) + 1,
    )  # fmt: skip
    return RankerArtifacts(content.user, content.context, content.items, Dlrm(config).eval(), **options)


def retrieval(content: Shop, seed: int) -> RetrievalArtifacts:
    """An untrained query tower and a flat index of random vectors."""
    torch.manual_seed(seed)
    tower = QueryTower(TwoTowerConfig(content.user.cardinalities, 1, (2,), 1)).eval()
    tower.candidate_fingerprint = "none"
    vectors = np.random.default_rng(seed).standard_normal((len(content.items), tower.config.dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = FaissIndex.flat(vectors, 1)
    index.source = "none"
    return RetrievalArtifacts(content.user, tower, index, content.items.item_ids, "cpu")


def rank_requests(content: Shop, count: int, seed: int, candidates: int = CANDIDATES) -> list[Any]:
    """Requests by attribute, as engines read them, of users with as long a history as is read; 5 % are unknown."""
    rng = np.random.default_rng(seed)
    requests = []
    for number in range(count):
        user = f"user-{rng.integers(USERS):09d}" if rng.random() > 0.05 else f"visitor-{number}"
        chosen = rng.choice(len(content.items), min(candidates, len(content.items)), replace=False)
        at = AT + int(rng.integers(7 * 86_400))
        requests.append(
            SimpleNamespace(
                user=SimpleNamespace(
                    user_id=user,
                    age=float(rng.integers(15, 80)),
                    gender=str(rng.choice(["F", "M"])),
                    top_category=f"category-{rng.integers(CATEGORIES_L1)}",
                    recent=_recent(content, at, rng),
                ),
                context=SimpleNamespace(device_type="mobile", timestamp=at),
                item_ids=content.items.ids(chosen),
                k=10,
                diversity=None,
                composition=None,
            )
        )
    return requests


def _recent(content: Shop, at: int, rng: np.random.Generator) -> list[str]:
    """As `UserFeatures.recent`, newest first."""
    ages = np.sort(rng.integers(1, 7 * 86_400, HISTORY_LENGTH)).tolist()
    met = content.items.ids(rng.integers(0, len(content.items), HISTORY_LENGTH))
    return [f"{at - age}|click|{item_id}" for age, item_id in zip(ages, met, strict=True)]
