"""The ranker over a grid of users and items, each side's work done once: what training needs, and no more.

`Dlrm.forward` scores rows, and repeats a user for each of its items and an item for each of its users. Here both sides
are computed once, and only what a pair decides is computed a pair: the dot products between the sides, the bottom
network behind its first layer, and the top network. The first layers of both networks are linear, so they are sums of
a user's part, an item's part and a pair's. Of match features (`models/matches.py`) what a history's events count is a
user's part, and which of them an item agrees with a pair's.

It reads the weights of the `Dlrm` that it is given and has none of its own; the same logits (a test holds them).

Shapes: S squares of M users and N items, U and I the vectors of a user (its tables and the context's) and of an item
(its tables, picture, text), D the width of vectors, H and T the widths of the networks' first layers, K kernels over L
events, C fields of items.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.models.dlrm import Dlrm
from cascade.models.history import AMOUNTS
from cascade.models.matches import EventHistories, EventTensors


@dataclass(frozen=True)
class Side:
    """One side of some rows, R of them.

    vectors: float [R, U or I, D]; bottom: float [R, H] and top: float [R, T], its part of the first layers' sums
    match: of users what their events count [R, K, L] and these' codes [R, L, C], of items their codes [R, C]; empty
        where no histories are read
    """

    vectors: Tensor
    bottom: Tensor
    top: Tensor
    match: tuple[Tensor, ...] = ()

    def grid(self, squares: int) -> Side:
        """The rows as `squares` × as many as there are, in order."""

        def shaped(part: Tensor) -> Tensor:
            return part.view(squares, len(part) // squares, *part.shape[1:])

        return Side(shaped(self.vectors), shaped(self.bottom), shaped(self.top), tuple(map(shaped, self.match)))


class DlrmPairs(nn.Module):
    """Scores grids by a `Dlrm`'s weights."""

    of_user: Tensor
    of_item: Tensor
    of_pair: Tensor
    of_history: Tensor
    in_user: Tensor
    in_item: Tensor

    def __init__(self, model: Dlrm) -> None:
        super().__init__()
        self.model = model
        config = model.config
        users, items = len(config.user_cardinalities), len(config.item_cardinalities)
        tables = len(config.cardinalities)
        self._first_item_table, self._first_context_table = users, users + items
        # Vectors in the model's order: dense, user, item, context, picture, text.
        user = [*range(1, 1 + users), *range(1 + users + items, 1 + tables)]
        item = [*range(1 + users, 1 + users + items), 1 + tables, 2 + tables]
        column = {pair: config.dim + n for n, pair in enumerate(combinations(range(tables + 3), 2))}
        matches = range(config.dim + len(column), config.dim + len(column) + config.matches)
        of_pair, of_history = (matches[:-AMOUNTS], matches[-AMOUNTS:]) if matches else (matches, matches)

        def columns(first: list[int], second: list[int]) -> list[int]:
            return [column[min(a, b), max(a, b)] for a in first for b in second]

        def pairs(vectors: list[int]) -> list[int]:
            return [column[pair] for pair in combinations(vectors, 2)]

        # Columns of the top network's first layer.
        places = {
            "of_user": pairs(user),
            "of_item": pairs(item),
            "of_pair": [*range(config.dim), *columns([0], user), *columns([0], item), *columns(user, item), *of_pair],
            "of_history": list(of_history),
            "in_user": _upper(len(user)),
            "in_item": _upper(len(item)),
        }
        for name, place in places.items():
            self.register_buffer(name, torch.tensor(place, dtype=torch.int64), persistent=False)
        self._continuous = (config.user_continuous, config.item_continuous, config.context_continuous)

    def users(
        self,
        user: Tensor,
        user_continuous: Tensor,
        context: Tensor,
        context_continuous: Tensor,
        *,
        histories: EventTensors | None = None,
    ) -> Side:
        """Categorical int [R, C] and continuous float [R, F] of users, and of contexts, → their side.

        histories: of each row's user, where the ranker reads them
        """
        tables = self._embed(user, 0) + self._embed(context, self._first_context_table)
        first, _, last = self._bottom_weights()
        bottom = user_continuous @ first.T + context_continuous @ last.T
        vectors = torch.stack(tables, dim=1)  # [R, U, D]
        top = self._within(vectors, self.in_user, self.of_user)
        matches = self.model.matches
        if matches is None:
            return Side(vectors, bottom, top)
        if histories is None:
            histories = EventHistories.empty(len(user), matches.fields).tensors(user.device)
        top = top + matches.amounts(histories) @ _first(self.model.over).weight.index_select(1, self.of_history).T
        return Side(vectors, bottom, top, (matches.kernels(histories), histories.codes))

    def items(self, item: Tensor, continuous: Tensor, image: Tensor, text: Tensor) -> Side:
        """Categorical int [R, C], continuous float [R, F], picture and text of items → their side."""
        model = self.model
        content = [model.image(model.image_scale(image)), model.text(model.text_scale(text))]
        vectors = torch.stack([*self._embed(item, self._first_item_table), *content], dim=1)  # [R, I, D]
        # The first layers' biases are counted here, once.
        bottom = F.linear(continuous, self._bottom_weights()[1], _first(model.bottom).bias)
        top = self._within(vectors, self.in_item, self.of_item) + _first(model.over).bias
        return Side(vectors, bottom, top, () if model.matches is None else (item,))

    def forward(self, users: Side, items: Side) -> Tensor:
        """Sides of [S, M] users and [S, N] items → logits float [S, M, N]."""
        model = self.model
        squares, m, u, dim = users.vectors.shape
        n, i = items.vectors.shape[1:3]
        dense = _rest(model.bottom, users.bottom[:, :, None] + items.bottom[:, None])  # [S, M, N, D]
        with_user = torch.bmm(dense.flatten(0, 1), users.vectors.flatten(0, 1).transpose(1, 2))  # [SM, N, U]
        by_item = dense.transpose(1, 2).reshape(squares * n, m, dim)
        with_item = torch.bmm(by_item, items.vectors.flatten(0, 1).transpose(1, 2))  # [SN, M, I]
        across = torch.bmm(users.vectors.flatten(1, 2), items.vectors.flatten(1, 2).transpose(1, 2))  # [S, MU, NI]
        parts = [
            dense,
            with_user.view(squares, m, n, u),
            with_item.view(squares, n, m, i).transpose(1, 2),
            across.view(squares, m, u, n, i).transpose(2, 3).flatten(3),
        ]
        if model.matches is not None:
            (weights, codes), (wanted,) = users.match, items.match
            wanted = wanted[:, None].expand(-1, m, -1, -1).flatten(0, 1)  # [SM, N, C]
            matched = model.matches.features(weights.flatten(0, 1), codes.flatten(0, 1), wanted)
            parts.append(matched.view(squares, m, n, -1))
        features = torch.cat(parts, dim=3)  # [S, M, N, D + U + I + UI + matches]
        first = F.linear(features, _first(model.over).weight.index_select(1, self.of_pair))
        first = first.add_(users.top[:, :, None]).add_(items.top[:, None])  # [S, M, N, T]
        return _rest(model.over, first).squeeze(3)

    def _embed(self, categorical: Tensor, first: int) -> list[Tensor]:
        tables = self.model.embed.tables[first : first + categorical.shape[1]]
        return [table(column) for table, column in zip(tables, categorical.unbind(1), strict=True)]

    def _bottom_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """The bottom network's first layer, by side: user, item, context."""
        weight, (users, items, _) = _first(self.model.bottom).weight, self._continuous
        return weight[:, :users], weight[:, users : users + items], weight[:, users + items :]

    def _within(self, vectors: Tensor, pairs: Tensor, columns: Tensor) -> Tensor:
        """What the dot products within a side add to the top network's first layer: [R, T]."""
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, pairs)
        return products @ _first(self.model.over).weight.index_select(1, columns).T


def _first(layers: nn.Sequential) -> nn.Linear:
    return cast(nn.Linear, layers[0])


def _rest(layers: nn.Sequential, sums: Tensor) -> Tensor:
    """What all layers but the first give of its sums; each ReLU in place, as no layer before one needs its output."""
    for layer in list(layers.children())[1:]:
        sums = torch.relu_(sums) if isinstance(layer, nn.ReLU) else layer(sums)
    return sums


def _upper(vectors: int) -> list[int]:
    """Places of all pairs in a flat [vectors × vectors]."""
    return [a * vectors + b for a, b in combinations(range(vectors), 2)]
