"""The feature list: every model input's name, order and meaning, in one place.

Categorical features are int32 rows of an embedding table, row 0 being out-of-vocabulary; continuous ones are
float32. Transforms produce columns in this order, models consume them in this order, Feast declares its views
from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OOV = 0
EMBEDDING_DIM = 64

DEVICES = ("mobile", "desktop", "tablet")
AGE_EDGES = (18, 25, 35, 50, 65)

USER_CATEGORICAL = ("user_id", "gender", "age_bucket", "top_category")
USER_CONTINUOUS = ("age",)

ITEM_CATEGORICAL = ("item_id", "category_l1", "category_l2", "item_gender")
ITEM_CONTINUOUS = ("price",)

CONTEXT_CATEGORICAL = ("device_type",)
CONTEXT_CONTINUOUS = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")

TOP_CATEGORY_WINDOW_S = 24 * 3600
"""How far back `top_category` looks, in seconds before the moment it describes."""

DEFAULT_EVENT_TYPE = "view"
"""What an interaction is where its table has no event types."""

NEGATIVE_EVENT_TYPES = ("not_interested",)
"""Interactions that say no: they hide the item and weigh against its category, and are no example to train towards."""

EVENT_TYPES = ("view", "click", "add_to_cart", "purchase", "not_interested")
EVENT_TYPE_ROWS = {name: row for row, name in enumerate(EVENT_TYPES, start=1)}
"""Event type → row of the history's embedding table; a type of a shop's own is out-of-vocabulary."""

HISTORY_LENGTH = 50
"""How many of a user's latest interactions networks may read."""
RECENT_LENGTH = 200
"""How many the online store keeps: items met vote in the ranker, and a vote costs less than a network's token."""

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded features.

    categorical: int32 [N, C], rows of embedding tables, columns in the spec's order
    continuous: float32 [N, F], standardised or cyclic values, columns in the spec's order
    """

    categorical: Rows
    continuous: Floats

    def __post_init__(self) -> None:
        if len(self.categorical) != len(self.continuous):
            raise ValueError(
                f"categorical has {len(self.categorical)} rows and continuous {len(self.continuous)}; "
                "encode both from the same table"
            )

    def __len__(self) -> int:
        return len(self.categorical)

    def take(self, rows: NDArray[np.integer] | slice) -> Encoded:
        """The given rows, in the given order."""
        return Encoded(self.categorical[rows], self.continuous[rows])

    def beside(self, other: Encoded) -> Encoded:
        """This batch's columns, then the other's, of the same rows."""
        return Encoded(
            np.concatenate([self.categorical, other.categorical], axis=1),
            np.concatenate([self.continuous, other.continuous], axis=1),
        )
