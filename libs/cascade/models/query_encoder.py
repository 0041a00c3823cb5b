"""The query tower as a service asks it: a handful of users at once, where calling torch costs more than computing.

On the CPU the same sums in NumPy, held to `QueryTower.predict` by a test; on a GPU the tower itself.

Shapes: B users, C categorical features, F continuous features, D the dimension of the vectors.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import nn

from cascade.models.arrays import Floats, Rows, require_rows, same_length
from cascade.models.errors import ModelInputError
from cascade.models.two_tower import QueryTower

_SMALLEST_LENGTH = np.float32(1e-12)
"""below which a vector is not scaled up to unit length, as in torch's `normalize`"""


class QueryEncoder(Protocol):
    """Encodes users into the candidates' space."""

    def predict(self, categorical: Rows, continuous: Floats) -> Floats:
        """int32 [B, C], float32 [B, F] → float32 [B, D]. Raises ModelInputError on arrays that do not fit."""
        ...


def make_encoder(tower: QueryTower, device: torch.device) -> QueryEncoder:
    """The fastest encoder for a device."""
    return NumpyQueryEncoder(tower) if device.type == "cpu" else tower.to(device)


class NumpyQueryEncoder:
    """The query tower's forward pass without torch; its tables are shared with the tower, not copied."""

    def __init__(self, tower: QueryTower) -> None:
        self._config = tower.config
        self._cardinalities = np.array(tower.config.user_cardinalities, np.uint32)
        self._tables = [table.detach().cpu().numpy() for table in tower.embed.tables.parameters()]
        linear = [layer for layer in tower.mlp if isinstance(layer, nn.Linear)]
        self._layers = [
            (layer.weight.detach().cpu().T.contiguous().numpy(), layer.bias.detach().cpu().numpy()) for layer in linear
        ]

    def predict(self, categorical: Rows, continuous: Floats) -> Floats:
        """See `QueryEncoder`."""
        config = self._config
        same_length(categorical=categorical, continuous=continuous)
        if categorical.shape[1] != len(config.user_cardinalities) or continuous.shape[1] != config.user_continuous:
            raise ModelInputError(
                f"users have {categorical.shape[1]} categorical and {continuous.shape[1]} continuous columns; "
                f"this tower takes {len(config.user_cardinalities)} and {config.user_continuous}"
            )
        # One comparison for all: a negative row is a huge unsigned one.
        if not (categorical.view(np.uint32) < self._cardinalities).all():
            require_rows(categorical, config.user_cardinalities)
        with np.errstate(all="ignore"):  # NaN comes out as it is: the caller looks for it
            hidden: Floats = np.concatenate(
                [*(table[categorical[:, place]] for place, table in enumerate(self._tables)), continuous], axis=1
            )
            for number, (weight, bias) in enumerate(self._layers):
                hidden = (np.maximum(hidden, 0) if number else hidden) @ weight
                hidden += bias
            if config.normalise:
                lengths = np.sqrt(np.vecdot(hidden, hidden))
                hidden /= np.maximum(lengths, _SMALLEST_LENGTH)[:, None]
        return hidden
