"""The DLRM taken apart by what each part of it depends on.

A request ranks N items for one user in one context. Of the network over each of these rows a part depends on the item
alone (computed once, when a bundle loads), a part on the request alone (once a request), and only the rest on both.
The sums are those of `Dlrm.forward` in another order:

- The first layer of the bottom network is linear in its columns: user, item and context each give a sum of their own.
- The V(V−1)/2 dot products fall into item·item (once an item), request·request (once a request), request·item,
  dense·item and dense·request.
- The first layer of the top network is linear in them. dense·request enters it as (W q) dense: one matrix for a
  request, added to the columns that dense has there anyway, so these products are never computed for a row.
- Match features depend on request and item both; how much history there is depends on the request alone.

Shapes: B requests, N rows, D the width of the vectors, Q vectors of a request (user and context tables), P vectors of
an item (its tables, picture, text), A the width of the bottom network's first layer, H of the top network's, M match
features.

A row of the top network's input: dense [D], request·item [P·Q, all of an item's first vector first], dense·item [P],
1, item·item [P(P−1)/2], match features [M]: K columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cascade.models.arrays import Floats, Rows, require_rows, same_length, to_tensor
from cascade.models.calibration import NONE, Calibration
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.models.history import AMOUNTS

_KEPT = ("widths", "calibration", "offset_scale")
_BLOCK = 8192
"""items whose part is computed at once"""


class ItemFeatures(Protocol):
    """The features of all items, by position: int32 [n, C], float32 [n, F], [n, image_dim], [n, text_dim]."""

    @property
    def categorical(self) -> Rows: ...
    @property
    def continuous(self) -> Floats: ...
    @property
    def image(self) -> Floats: ...
    @property
    def text(self) -> Floats: ...


@dataclass(frozen=True)
class Widths:
    """The sizes that a configuration gives its parts."""

    request: int
    """Q"""
    item: int
    """P"""
    dim: int
    """D"""
    item_continuous: int
    matches: int = 0
    """M"""
    attention: int = 0
    """Numbers kept of an item for target attention"""

    @classmethod
    def of(cls, config: DlrmConfig) -> Widths:
        """Of a network."""
        request = len(config.user_cardinalities) + len(config.context_cardinalities)
        matches = config.matches - AMOUNTS if config.matches else 0
        attention = config.attention_dim if config.matches and config.attention_heads else 0
        return cls(request, len(config.item_cardinalities) + 2, config.dim, config.item_continuous, matches, attention)

    @property
    def vectors(self) -> int:
        """Numbers of an item's vectors: P·D."""
        return self.item * self.dim

    @property
    def side(self) -> int:
        """Numbers kept beside an item's vectors: its continuous features, 1, and its own dot products."""
        return self.item_continuous + 1 + self.item * (self.item - 1) // 2

    @property
    def over(self) -> int:
        """K: columns of the top network's input in this order of summation."""
        return self.first_match + self.matches

    @property
    def first_match(self) -> int:
        """The first column of the match features, the last ones."""
        return self.constant + 1 + self.item * (self.item - 1) // 2

    @property
    def codes(self) -> int:
        """Numbers kept of an item to be compared with a history's: its categorical features, where one is read."""
        return self.item - 2 if self.matches else 0

    @property
    def constant(self) -> int:
        """The column of the top network's input that holds 1."""
        return self.dim + self.item * self.request + self.item

    @property
    def bytes_per_item(self) -> int:
        """Memory of one item's part, float32 and int32."""
        return 4 * (self.vectors + self.side + self.codes + self.attention)


@dataclass(frozen=True)
class DlrmSplit:
    """The weights by what they multiply; all arrays of one kind, NumPy's or torch's. Matrices take rows from the left.

    tables: Q tables, of user then context, each [rows, D]
    bottom_request [user + context columns, A], bottom_item [item columns + 1, A], the bias as the last row
    bottom_rest, top_rest: (weight [in, out], bias [out]) of the layers that follow
    top_dense [D, H], top_dense_request [Q, H], top_rows [K − D, H] with the bias in the row of the constant 1,
    top_request [Q·Q, H]: zero but for one row a pair
    top_amounts [2, H]: of how much history there is; [0, H] where none is read
    calibration: what is left to do to the last layer's output; none where that layer took it up, being one line
    offset_scale: what that line makes of what is added to the output
    """

    widths: Widths
    tables: tuple[Any, ...]
    bottom_request: Any
    bottom_item: Any
    bottom_rest: tuple[tuple[Any, Any], ...]
    top_dense: Any
    top_dense_request: Any
    top_rows: Any
    top_request: Any
    top_amounts: Any
    top_rest: tuple[tuple[Any, Any], ...]
    calibration: Calibration = NONE
    offset_scale: float = 1.0

    @classmethod
    def of(cls, model: Dlrm) -> DlrmSplit:
        """The weights of a network as contiguous float32 tensors on the CPU; tables are shared with it, not copied."""
        config, widths = model.config, Widths.of(model.config)
        users, items = len(config.user_cardinalities), len(config.item_cardinalities)
        tables = list(model.embed.tables.parameters())

        (bottom_weight, bottom_bias), *bottom_rest = _layers(model.bottom)
        user, item = config.user_continuous, config.item_continuous
        by_user, by_item, by_context = bottom_weight.tensor_split([user, user + item])

        over, offset_scale = _layers(model.over), 1.0
        if model.calibration.line is not None:
            scale, shift = model.calibration.line
            offset_scale = scale
            over[-1] = over[-1][0] * scale, over[-1][1] * scale + shift
        (top_weight, top_bias), *top_rest = over
        first_match = top_weight.shape[0] - config.matches
        by_dense, by_pair = top_weight[: config.dim], top_weight[config.dim : first_match]  # [D, H], [V(V−1)/2, H]
        by_match, by_amount = top_weight[first_match:].tensor_split([widths.matches])  # [M, H], [2, H]
        pairs = {pair: row for row, pair in enumerate(combinations(range(len(tables) + 3), 2))}
        dense = 0
        request = [*range(1, 1 + users), *range(1 + users + items, 1 + len(tables))]  # places among the V vectors
        own = [*range(1 + users, 1 + users + items), 1 + len(tables), 2 + len(tables)]

        def rows(wanted: Iterator[tuple[int, int]]) -> Tensor:
            return by_pair[[pairs[min(pair), max(pair)] for pair in wanted]]

        among_request = torch.zeros(widths.request, widths.request, top_bias.shape[0])
        for (i, first), (j, second) in combinations(enumerate(request), 2):
            among_request[i, j] = by_pair[pairs[first, second]]
        parts: dict[str, Any] = {
            "tables": tuple(tables[:users] + tables[users + items :]),
            "bottom_request": torch.cat([by_user, by_context]),
            "bottom_item": torch.cat([by_item, bottom_bias[None]]),
            "bottom_rest": tuple(bottom_rest),
            "top_dense": by_dense,
            "top_dense_request": rows((dense, one) for one in request),
            "top_rows": torch.cat(
                [
                    rows((theirs, one) for one in own for theirs in request),
                    rows((dense, one) for one in own),
                    top_bias[None],
                    rows(combinations(own, 2)),
                    by_match,
                ]
            ),
            "top_request": among_request.flatten(0, 1),
            "top_amounts": by_amount,
            "top_rest": tuple(top_rest),
        }
        left = NONE if model.calibration.line is not None else model.calibration
        return cls(
            widths,
            **{name: _each(part, _plain) for name, part in parts.items()},
            calibration=left,
            offset_scale=offset_scale,
        )

    def numpy(self) -> DlrmSplit:
        """The same weights as NumPy arrays."""
        return self._map(lambda tensor: tensor.numpy())

    def to(self, device: torch.device) -> DlrmSplit:
        """The same weights on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Any) -> DlrmSplit:
        parts = {name: _each(part, change) for name, part in vars(self).items() if name not in _KEPT}
        return DlrmSplit(self.widths, **parts, calibration=self.calibration, offset_scale=self.offset_scale)

    def vectors(self, categorical: Any, empty: Any) -> Any:
        """A request's vectors, [B, Q, D].

        categorical: int [B, Q], user then context
        empty: shape → an array of these weights' kind to write into
        """
        vectors = empty((len(categorical), self.widths.request, self.widths.dim))
        for place, table in enumerate(self.tables):
            vectors[:, place] = table[categorical[:, place]]
        return vectors


def pack_items(model: Dlrm, items: ItemFeatures) -> tuple[Floats, Floats]:
    """What depends on the item alone: vectors float32 [n, P·D] and side float32 [n, continuous + 1 + P(P−1)/2].

    Raises ModelInputError where the items do not fit the network.
    """
    config, widths = model.config, Widths.of(model.config)
    same_length(categorical=items.categorical, continuous=items.continuous, image=items.image, text=items.text)
    if items.categorical.shape[1:] == (len(config.item_cardinalities),):
        require_rows(items.categorical, config.item_cardinalities)
    device = model.image.weight.device
    users = len(config.user_cardinalities)
    tables = list(model.embed.tables)[users : users + len(config.item_cardinalities)]
    first, second = torch.triu_indices(widths.item, widths.item, offset=1).to(device)
    count = len(items.categorical)
    vectors = np.empty((count, widths.vectors), np.float32)
    side = np.empty((count, widths.side), np.float32)
    with torch.inference_mode():
        for start in range(0, count, _BLOCK):
            rows = slice(start, start + _BLOCK)
            categorical = to_tensor(items.categorical[rows], len(tables), "categorical", device)
            continuous = to_tensor(items.continuous[rows], widths.item_continuous, "continuous", device)
            image = to_tensor(items.image[rows], config.image_dim, "image", device)
            text = to_tensor(items.text[rows], config.text_dim, "text", device)
            parts = [table(column) for table, column in zip(tables, categorical.unbind(1), strict=True)]
            parts += [model.image(model.image_scale(image)), model.text(model.text_scale(text))]
            block = torch.stack(parts, dim=1)  # [n, P, D]
            among = torch.bmm(block, block.transpose(1, 2))[:, first, second]  # [n, P(P−1)/2]
            vectors[rows] = block.flatten(1).cpu().numpy()
            side[rows] = torch.cat([continuous, torch.ones_like(among[:, :1]), among], dim=1).cpu().numpy()
    return vectors, side


def _layers(network: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """(weight [in, out], bias [out]) of a network's linear layers."""
    return [(layer.weight.T, layer.bias) for layer in network if isinstance(layer, nn.Linear)]


def _each(part: Any, change: Any) -> Any:
    return tuple(_each(one, change) for one in part) if isinstance(part, tuple) else change(part)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().float().contiguous()
