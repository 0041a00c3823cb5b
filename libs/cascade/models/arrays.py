"""From the NumPy arrays of a caller to tensors, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade.models.errors import ModelInputError

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]


def to_tensor(array: NDArray[Any], columns: int, name: str, device: torch.device) -> Tensor:
    """A [N, columns] array as a tensor on `device`, without a copy where the memory allows it.

    To a GPU it goes through pinned memory and without waiting: what is computed of it there queues behind it.
    """
    if array.ndim != 2 or array.shape[1] != columns:
        raise ModelInputError(f"{name} has shape {array.shape}; this model takes [rows, {columns}]")
    if not array.flags.writeable:  # torch warns on read-only memory, such as a mapped file
        array = array.copy()
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def same_length(**arrays: NDArray[Any]) -> None:
    """Raises ModelInputError unless all the named arrays have the same number of rows."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ModelInputError(f"inputs differ in their number of rows: {lengths}; encode the same rows")


def require_rows(categorical: Rows, cardinalities: Sequence[int]) -> None:
    """Raises ModelInputError naming the first column with a row outside its embedding table."""
    for column, rows in enumerate(cardinalities):
        values = categorical[:, column]
        outside = values[(values < 0) | (values >= rows)]
        if len(outside):
            raise ModelInputError(
                f"categorical column {column} holds row {int(outside[0])}, its table has rows 0 to "
                f"{rows - 1}; encode with the transforms stored beside this model"
            )
