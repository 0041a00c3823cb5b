"""Training rows and items as tensors, gathered batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade.features.history import Histories
from cascade.features.item_table import ItemTable
from cascade.features.spec import ITEM_CATEGORICAL, OOV, USER_CATEGORICAL, USER_CONTINUOUS, Encoded
from cascade.features.training_set import TrainingSet
from cascade.training.errors import TrainingInputError
from cascade.training.negatives import drop_ids

IntArray = NDArray[np.int64]

_AGE = USER_CONTINUOUS.index("age")
_AGE_BUCKET = USER_CATEGORICAL.index("age_bucket")
_AGES_SEARCHED = 100_000
ALL = slice(None)


class ItemTensors:
    """The catalog's features on the training device. I items."""

    def __init__(self, items: ItemTable, device: torch.device) -> None:
        self._categorical = items.categorical
        self._device = device
        self.count = len(items.item_ids)
        self.continuous = _tensor(items.continuous, device)  # [I, F]
        self.image = _tensor(items.image, device)  # [I, image_dim]
        self.text = _tensor(items.text, device)  # [I, text_dim]

    def take(
        self, positions: IntArray, dropout: float, rng: np.random.Generator, only: IntArray | slice = ALL
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Categorical, continuous, image and text of these items, a share of them without their id.

        only: places of those that are wanted; random numbers are drawn for all, so that they do not depend on it.
        """
        categorical = drop_ids(self._categorical[positions], dropout, rng)[only]
        at = torch.from_numpy(positions[only]).to(self._device)
        return _tensor(categorical, self._device), self.continuous[at], self.image[at], self.text[at]


def unknown_user(user: Encoded) -> Encoded:
    """One row, as serving encodes a visitor of whom nothing is known: ids unknown, the age the mean.

    The mean's bucket is taken from the row whose age lies nearest to it.
    """
    sample = user.take(slice(0, _AGES_SEARCHED))
    nearest = int(np.abs(sample.continuous[:, _AGE]).argmin())
    categorical = np.full((1, user.categorical.shape[1]), OOV, np.int32)
    categorical[0, _AGE_BUCKET] = sample.categorical[nearest, _AGE_BUCKET]
    return Encoded(categorical, np.zeros((1, user.continuous.shape[1]), np.float32))


def drop_users(user: Encoded, ids: float, everything: float, unknown: Encoded, rng: np.random.Generator) -> Encoded:
    """A copy in which a share of rows lost the user's id, and another became the unknown user."""
    categorical = drop_ids(user.categorical, ids, rng)
    continuous = user.continuous.copy()
    lost = rng.random(len(user)) < everything
    categorical[lost], continuous[lost] = unknown.categorical, unknown.continuous
    return Encoded(categorical, continuous)


def gather(array: NDArray[Any], rows: IntArray, device: torch.device) -> Tensor:
    """Some rows of an array, which may be a mapped file, as a tensor."""
    return torch.from_numpy(array[rows]).to(device)


def require_trainable(rows: TrainingSet, items: ItemTable) -> None:
    """Raises TrainingInputError where there is nothing to learn from, or rows name items the table lacks."""
    if len(rows.item_position) < 2:
        raise TrainingInputError(f"there are {len(rows.item_position)} training rows; train on more days")
    low, high = int(rows.item_position.min()), int(rows.item_position.max())
    if low < 0 or high >= len(items.item_ids):
        raise TrainingInputError(
            f"rows name items {low} to {high}, the item table has 0 to {len(items.item_ids) - 1}; "
            "drop rows of unknown items, and use the table the rows were made with"
        )
    if low == high:
        raise TrainingInputError(f"all rows hold the same item (position {low}); there is nothing to tell apart")


def kinds_of(items: ItemTable, frequency: NDArray[np.float64], most: float) -> NDArray[np.int32] | None:
    """The finest category of which there are more than one and at most so many, int32 [I]; None where there is none.

    frequency: float64 [I], the items' shares of the clicks, by which kinds are counted: as many as, if alike in size,
        would meet as often in two clicks (the inverse of Simpson's index)
    """
    for name in ("category_l2", "category_l1"):
        kinds: NDArray[np.int32] = items.categorical[:, ITEM_CATEGORICAL.index(name)]
        shares = np.bincount(kinds, weights=frequency)
        if len(np.unique(kinds)) > 1 and 1 / np.square(shares).sum() <= most:
            return kinds
    return None


def sample_rows(rows: TrainingSet, at_most: int, seed: int) -> IntArray:
    """Row numbers, all of them or a seeded sample in order."""
    count = len(rows.item_position)
    if count <= at_most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, at_most, replace=False))


def data_summary(rows: TrainingSet, items: ItemTable) -> list[float]:
    """Numbers that change when a training's data does, for its checkpoint's name."""
    return [
        len(rows.item_position),
        len(items.item_ids),
        int(np.bitwise_xor.reduce(rows.timestamp)) if len(rows.timestamp) else 0,
        int(rows.timestamp.sum()),
        int(rows.item_position.sum(dtype=np.int64)),
        int(rows.user.categorical.sum(dtype=np.int64)),
        *([] if rows.histories is None else _summary_of(rows.histories)),
        *([] if rows.weight is None else _summary_of_weights(rows.weight)),
    ]


def _summary_of(histories: Histories) -> list[int]:
    lengths = int(histories.history_end.sum()) - int(histories.history_start.sum())
    return [len(histories.event_item), int(histories.event_item.sum(dtype=np.int64)), lengths]


def _summary_of_weights(weight: NDArray[np.float32]) -> list[float]:
    return [float(weight.sum(dtype=np.float64)), float(weight[:: max(len(weight) // 97, 1)].sum())]


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
