"""The history encoder: one causal attention block, asked from a row's own position.

SASRec (Kang and McAuley 2018) lets every position of a user's sequence attend to those before it, with its own item's
embedding as the question. Here the question is what is known of the user and the moment, and one block is all: so a
position sees exactly the events before it, at their age as of its own moment, training over every position of a
sequence is training over rows, and serving computes the last position alone. An item's token is made of its vector in
the candidate space, so it carries id and content, those of items that joined later too.

Beside it `HistorySum` adds what was met as it is, which takes few examples to learn.

Shapes: B rows, L events of the longest history, P tokens (distinct pairs of item and event type), D the dimension of
the candidates' vectors, H of the history's, N heads, F features of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.models.arrays import Floats, Rows
from cascade.models.errors import ModelConfigError, ModelInputError

AGE_EDGES: NDArray[np.int64] = 2 ** np.arange(25, dtype=np.int64)
"""Seconds at which one bucket of ages ends and the next begins: each spans twice the one before, up to 388 days."""

AMOUNTS = 2
"""Columns that say how much history there is."""

MASKED = -1e9
"""The log-odds of an event that is none."""
_SLOPES = (1.0, 0.25, 0.0625, 0.0)
"""How fast the heads forget, to begin with, in log-odds a place (Press et al. 2022); learned from there."""


@dataclass(frozen=True)
class HistoryTensors:
    """Histories as the encoder takes them, newest event first.

    vectors: float [P, D], types: int64 [P]; token: int64 [B, L], which of the P an event is, -1 for none
    age: int64 [B, L], seconds from the event to the row's moment
    """

    vectors: Tensor
    types: Tensor
    token: Tensor
    age: Tensor


@dataclass(frozen=True)
class HistoryArrays:
    """The same in NumPy, each event with its own vector, as serving has it.

    vectors: float32 [B, L, D], types: int32 [B, L], ages: int64 [B, L], there: bool [B, L], False behind a history's
        end and for events that say nothing (their item is gone)
    """

    vectors: Floats
    types: Rows
    ages: NDArray[np.int64]
    there: NDArray[np.bool_]

    @classmethod
    def gather(cls, items: Rows, types: Rows, ages: NDArray[np.int64], vectors: Floats) -> HistoryArrays:
        """From item positions int32 [B, L] (-1 for none) in a table of vectors [I, D]."""
        return cls(vectors[np.maximum(items, 0)], types, ages, items >= 0)

    def tensors(self, dim: int, device: torch.device) -> HistoryTensors:
        """For the module. Raises ModelInputError where shapes do not fit."""
        self.require(dim)
        rows, length = self.there.shape
        token = np.where(self.there, np.arange(rows * length).reshape(rows, length), -1)
        return HistoryTensors(
            torch.from_numpy(np.ascontiguousarray(self.vectors.reshape(rows * length, dim))).to(device),
            torch.from_numpy(self.types.reshape(-1).astype(np.int64)).to(device),
            torch.from_numpy(token).to(device),
            torch.from_numpy(np.ascontiguousarray(self.ages)).to(device),
        )

    def require(self, dim: int) -> None:
        """Raises ModelInputError where the arrays do not fit each other, or vectors of this dimension."""
        shape = self.there.shape
        if len(shape) != 2 or self.vectors.shape != (*shape, dim) or {self.types.shape, self.ages.shape} != {shape}:
            raise ModelInputError(
                f"a history's vectors have shape {self.vectors.shape}, types {self.types.shape}, ages "
                f"{self.ages.shape}, mask {shape}; give [rows, events, {dim}] and [rows, events] thrice"
            )


class HistoryEncoder(nn.Module):
    """A row's features and its history → what the history says to that row, float [B, H + 2].

    The last two columns say how much history there is: the log of its length, and of the age of its newest event.
    """

    def __init__(self, features: int, item_dim: int, dim: int, heads: int, length: int, event_types: int) -> None:
        super().__init__()
        if not heads or dim % heads or not length or not event_types:
            raise ModelConfigError(
                f"a history of dimension {dim}, {heads} heads, length {length} and {event_types} event types; give "
                "at least 1 of each, and a dimension that the heads divide"
            )
        self.heads, self.length = heads, length
        self.event = nn.Embedding(event_types, dim)
        self.token = nn.Linear(item_dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.question = nn.Linear(features, dim)
        self.nothing = nn.Parameter(torch.zeros(heads))
        """log-odds of looking at nothing, of value 0: what a row without history does"""
        slopes = torch.tensor([_SLOPES[head % len(_SLOPES)] for head in range(heads)])
        self.by_rank = nn.Parameter(-slopes[:, None] * torch.arange(length))  # [N, length]
        self.by_age = nn.Parameter(torch.zeros(heads, len(AGE_EDGES) + 1))
        head_of = torch.arange(dim) // (dim // heads)
        self.register_buffer("parts", F.one_hot(head_of, heads).float().T.contiguous(), persistent=False)  # [N, H]
        self.register_buffer("age_edges", torch.from_numpy(AGE_EDGES), persistent=False)
        nn.init.normal_(self.event.weight, std=0.05)
        # Unit vectors have components of 1 / sqrt(D); the token's are of the order of 1.
        nn.init.normal_(self.token.weight, std=1.0)

    age_edges: Tensor
    parts: Tensor

    @property
    def width(self) -> int:
        """Columns of the output."""
        return self.question.out_features + AMOUNTS

    def forward(self, features: Tensor, history: HistoryTensors) -> Tensor:
        """float [B, F] and histories → float [B, H + 2]."""
        rows, length = history.token.shape
        there = history.token >= 0  # [B, L]
        said = amounts(there, history.age)
        if not length or not len(history.vectors):
            nothing = features.new_zeros(rows, self.question.out_features)
            if self.training:  # a gradient of zero rather than none, which processes that train together wait for
                nothing = nothing + 0.0 * torch.stack([value.sum() for value in self.parameters()]).sum()
            return torch.cat([nothing, said], dim=1)
        tokens = self.token_norm(self.token(history.vectors) + self.event(history.types))  # [P, H]
        place = history.token.clamp_min(0)
        key, value = self.key_value(tokens).chunk(2, dim=1)
        keys, values = F.embedding(place, key), F.embedding(place, value)  # [B, L, H] each
        # Each head's question stands in its own part of a row, so that one product of matrices serves all heads
        # without a temporary of the keys' size.
        question = self.question(features)[:, None, :] * self.parts  # [B, N, H]
        scores = torch.bmm(keys, question.transpose(1, 2)) / math.sqrt(keys.shape[2] // self.heads)  # [B, L, N]
        scores = scores + self.by_rank[:, :length].T
        scores = scores + F.embedding(torch.bucketize(history.age, self.age_edges, right=True), self.by_age.T)
        scores = scores.masked_fill(~there[:, :, None], MASKED)
        nothing = self.nothing.expand(rows, 1, self.heads)
        weights = torch.softmax(torch.cat([nothing, scores], dim=1), dim=1)[:, 1:]  # [B, L, N]
        heard = (torch.bmm(weights.transpose(1, 2), values) * self.parts).sum(1)  # [B, H]
        return torch.cat([heard, said], dim=1)


class HistorySum(nn.Module):
    """A history as the sum of its items' vectors, mapped into the queries' space.

    FISM (Kabbur et al. 2013): one half of an item-to-item matrix of low rank, the candidates' vectors being the other.
    Each event counts by its type. The sum is divided by the root of their number: more evidence may be more certain,
    and a long history does not drown the rest.
    """

    def __init__(self, item_dim: int, dim: int, event_types: int) -> None:
        super().__init__()
        self.by_type = nn.Embedding(event_types, 1)
        self.map = nn.Linear(item_dim, dim, bias=False)
        nn.init.ones_(self.by_type.weight)
        nn.init.eye_(self.map.weight)

    def forward(self, history: HistoryTensors) -> Tensor:
        """Histories of B rows → float [B, D], 0 where there is none."""
        there = history.token >= 0  # [B, L]
        counts = there.sum(1)
        if not len(history.vectors):
            total = history.vectors.new_zeros(len(counts), self.map.in_features)
            if self.training:  # a gradient of zero rather than none, as in `HistoryEncoder`
                total = total + 0.0 * self.by_type.weight.sum()
        else:
            place = history.token[there]  # [E], row by row
            weights = self.by_type(history.types).squeeze(1)[place]
            starts = torch.cumsum(counts, 0) - counts
            total = F.embedding_bag(place, history.vectors, starts, mode="sum", per_sample_weights=weights)
        mapped: Tensor = self.map(total * counts.clamp_min(1).to(total.dtype).rsqrt()[:, None])
        return mapped


def amounts(there: Tensor, age: Tensor) -> Tensor:
    """bool and int64 [B, L] → float [B, 2]: logs of the number of events and of the newest one's age, 0 without any."""
    count = there.sum(1)
    if not there.shape[1]:
        return torch.zeros(len(there), 2, device=there.device)
    newest = age.masked_fill(~there, torch.iinfo(torch.int64).max).min(1).values
    newest = torch.where(count > 0, newest, torch.zeros_like(newest))
    return torch.stack([torch.log1p(count.float()) / 4, torch.log1p(newest.float()) / 10], dim=1)


def amounts_of(there: NDArray[np.bool_], age: NDArray[np.int64]) -> Floats:
    """The same in NumPy."""
    said = np.zeros((len(there), AMOUNTS), np.float32)
    if there.shape[1]:
        count = there.sum(axis=1)
        newest = np.where(there, age, np.iinfo(np.int64).max).min(axis=1)
        said[:, 0] = np.log1p(count.astype(np.float32)) / 4
        said[:, 1] = np.log1p(np.where(count > 0, newest, 0).astype(np.float32)) / 10
    return said
