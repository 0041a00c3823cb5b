"""Bytes of each pod and of Redis, from what the bench counted a user and an item (area `memory`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cascade.capacity.costs import Costs
from cascade.capacity.demand import FLAT_UP_TO

GIB = 2**30
DIM = 64
_SQ8 = DIM + 16
"""bytes of a vector in `ivf_sq8`: 8 bits a dimension, its position, where it lies"""
_TOWERS_VECTORS = 3
"""of an item, in the ranker's towers: a row of the ids' table, the id's own vector, and what comes of both"""
WHILE_SWAPPING = 2
"""a new bundle loads beside the one that serves"""
REDIS_RESERVE = 1.25
"""for fragmentation, replication buffers and pages copied while a snapshot is written"""


@dataclass(frozen=True)
class Shop:
    """items, users: of the catalog, and known to the models (each has an embedding and a row of features)
    active: users whose seen and recent items are in Redis: met within the last 7 days
    """

    items: int
    users: int
    active: int


def index_bytes(items: int) -> int:
    """Of the index that a catalog of this size gets, centres included."""
    if items <= FLAT_UP_TO:
        return 4 * DIM * items
    return _SQ8 * items + round(4 * math.sqrt(items)) * 4 * DIM


def bundle_bytes(costs: Costs, shop: Shop, *, packed: bool = True) -> dict[str, dict[str, float]]:
    """Of each service, what one loaded bundle takes, part by part."""
    users = {
        "user ids": shop.users * costs["memory.vocabulary.per_user"],
        "user table": shop.users * costs["memory.embedding.per_user"],
    }
    ranker = {
        **users,
        "towers' user table": shop.users * costs["memory.embedding.per_user"],
        "item table": shop.items * costs["memory.item_table.per_item"],
        "towers' items": shop.items * _TOWERS_VECTORS * costs["memory.flat.per_item"],
        "items of items": shop.items * costs["memory.item_to_item.per_item"],
    }
    if packed:
        ranker["precomputed items"] = shop.items * costs["memory.packed.per_item"]
    catalog = {"catalog": shop.items * costs["memory.catalog.per_item"]}
    return {
        "gateway": catalog,
        "retrieval": {
            **users,
            "index": float(index_bytes(shop.items)),
            "item ids": shop.items * costs["memory.retrieval_ids.per_item"],
        },
        "filter": {},
        "ranker": ranker,
        "features": catalog,
    }


def redis_bytes(costs: Costs, shop: Shop) -> dict[str, float]:
    """Part by part, the reserve apart."""
    return {
        "features": shop.users * costs["memory.redis.features.per_user"],
        "seen items": shop.active * costs["filter.memory.full_user"],
        "recent items": shop.active * costs["memory.redis.recent.per_user"],
    }
