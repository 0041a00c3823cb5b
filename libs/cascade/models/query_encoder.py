"""The query tower as a service asks it: a handful of users at once, where calling torch costs more than computing.

On the CPU the same sums in NumPy, held to `QueryTower.predict` by a test; on a GPU the tower itself.

Shapes: B users, C categorical features, F continuous features, D the dimension of the vectors, L events of the longest
history, H the history's dimension, N its heads.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import nn

from cascade.models.arrays import Floats, Rows, require_rows
from cascade.models.history import AGE_EDGES, AMOUNTS, HistoryArrays, HistoryEncoder, HistorySum, amounts_of
from cascade.models.two_tower import QueryTower, require_query

_SMALLEST_LENGTH = np.float32(1e-12)
"""below which a vector is not scaled up to unit length, as in torch's `normalize`"""


class QueryEncoder(Protocol):
    """Encodes users into the candidates' space."""

    def predict(self, categorical: Rows, continuous: Floats, history: HistoryArrays | None = None) -> Floats:
        """int32 [B, C], float32 [B, F], histories in mode `session` → float32 [B, D].

        Raises ModelInputError on arrays that do not fit.
        """
        ...


def make_encoder(tower: QueryTower, device: torch.device) -> QueryEncoder:
    """The fastest encoder for a device."""
    return NumpyQueryEncoder(tower) if device.type == "cpu" else tower.to(device)


class NumpyQueryEncoder:
    """The query tower's forward pass without torch; its tables are shared with the tower, not copied."""

    def __init__(self, tower: QueryTower) -> None:
        self._config = tower.config
        self._cardinalities = np.array(tower.config.query_cardinalities, np.uint32)
        self._tables = [table.detach().cpu().numpy() for table in tower.embed.tables.parameters()]
        self._layers = [_affine(layer) for layer in tower.mlp if isinstance(layer, nn.Linear)]
        self._history = None if tower.history is None else NumpyHistoryEncoder(tower.history)
        self._shortcut = None if tower.shortcut is None else _affine(tower.shortcut)[0]
        self._sum = None if tower.sum is None else NumpyHistorySum(tower.sum)

    def predict(self, categorical: Rows, continuous: Floats, history: HistoryArrays | None = None) -> Floats:
        """See `QueryEncoder`."""
        config = self._config
        require_query(config, categorical, continuous, history)
        # One comparison for all: a negative row is a huge unsigned one.
        if not (categorical.view(np.uint32) < self._cardinalities).all():
            require_rows(categorical, config.query_cardinalities)
        with np.errstate(all="ignore"):  # NaN comes out as it is: the caller looks for it
            hidden: Floats = np.concatenate(
                [*(table[categorical[:, place]] for place, table in enumerate(self._tables)), continuous], axis=1
            )
            said: Floats | None = None
            if self._history is not None and history is not None:
                history = replace(history, vectors=history.vectors[:, :, : config.item_dims])
                said = self._history(hidden, history)
                hidden = np.concatenate([hidden, said], axis=1)
            for number, (weight, bias) in enumerate(self._layers):
                hidden = (np.maximum(hidden, 0) if number else hidden) @ weight
                hidden += bias
            if said is not None and self._shortcut is not None:
                hidden += said @ self._shortcut
            if self._sum is not None and history is not None:
                hidden += self._sum(history)
            if config.normalise:
                alike = hidden[:, : config.item_dims]
                lengths = np.sqrt(np.vecdot(alike, alike))
                alike /= np.maximum(lengths, _SMALLEST_LENGTH)[:, None]
            if config.item_bias:
                hidden[:, -1] = 1
        return hidden


class NumpyHistoryEncoder:
    """`HistoryEncoder` in NumPy, at the rows' own position alone."""

    def __init__(self, encoder: HistoryEncoder) -> None:
        self._type = encoder.event.weight.detach().cpu().numpy()  # [types, H]
        self._token, token_bias = _affine(encoder.token)
        self._type_and_bias = self._type + token_bias
        norm = encoder.token_norm
        weight, bias = _affine(encoder.key_value)  # [H, 2 H], [2 H]
        scale, shift = norm.weight.detach().cpu().numpy(), norm.bias.detach().cpu().numpy()
        # The norm's scale and shift are part of the keys' and values' layer.
        self._key_value, self._key_value_bias = scale[:, None] * weight, bias + shift @ weight
        self._epsilon = np.float32(norm.eps)
        self._question, self._question_bias = _affine(encoder.question)
        width = len(self._question_bias)
        self._ones = np.full(width, 1 / width, np.float32)
        self._nothing = encoder.nothing.detach().cpu().numpy()  # [N]
        self._by_rank = encoder.by_rank.detach().cpu().numpy().T.copy()  # [length, N]
        self._by_age = encoder.by_age.detach().cpu().numpy().T.copy()  # [buckets, N]
        self._parts = encoder.parts.cpu().numpy()  # [N, H]: which columns are a head's
        self._scaled_parts = self._parts / np.float32(np.sqrt(width // encoder.heads))

    def __call__(self, features: Floats, history: HistoryArrays) -> Floats:
        """float32 [B, F] and histories → float32 [B, H + 2].

        Keys and values of all rows' events at once, padding left out; then row by row, since a service asks for a few.
        """
        width = self._question.shape[1]
        said = np.zeros((len(features), width + AMOUNTS), np.float32)
        row, place = np.nonzero(history.there)  # E events in all
        if not len(row):
            return said
        said[:, width:] = amounts_of(history.there, history.ages)
        ages = history.ages[row, place]
        tokens = history.vectors[row, place] @ self._token  # [E, H]
        tokens += self._type_and_bias[history.types[row, place]]
        tokens -= (tokens @ self._ones)[:, None]  # the mean
        tokens *= (1 / np.sqrt(np.vecdot(tokens, tokens) / np.float32(width) + self._epsilon))[:, None]
        both = tokens @ self._key_value  # [E, 2 H]
        both += self._key_value_bias
        bias = self._by_rank[place]
        bias += self._by_age[np.searchsorted(AGE_EDGES, ages, side="right")]  # [E, N]
        question = features @ self._question
        question += self._question_bias
        edges = np.searchsorted(row, np.arange(len(features) + 1)).tolist()
        for number, (start, end) in enumerate(pairwise(edges)):
            if start == end:
                continue
            keys, values = both[start:end, :width], both[start:end, width:]
            scores = keys @ (question[number] * self._scaled_parts).T  # [E, N]
            scores += bias[start:end]
            highest = np.maximum(scores.max(axis=0), self._nothing)
            weights = np.exp(scores - highest)
            total = weights.sum(axis=0) + np.exp(self._nothing - highest)
            heads = (weights / total).T @ values  # [N, H]
            heads *= self._parts
            said[number, :width] = heads.sum(axis=0)
        return said


class NumpyHistorySum:
    """`HistorySum` in NumPy."""

    def __init__(self, module: HistorySum) -> None:
        self._by_type = module.by_type.weight.detach().cpu().numpy()[:, 0].copy()
        self._map = _affine(module.map)[0]  # [item dims, D]

    def __call__(self, history: HistoryArrays) -> Floats:
        """Histories of B rows → float32 [B, D]."""
        weights = self._by_type[history.types] * history.there  # [B, L]
        counts = np.maximum(history.there.sum(axis=1), 1).astype(np.float32)
        total = np.matmul(weights[:, None], history.vectors)[:, 0]  # [B, item dims]
        total /= np.sqrt(counts)[:, None]
        mapped: Floats = total @ self._map
        return mapped


def _affine(layer: nn.Linear) -> tuple[Floats, Floats]:
    """A layer's weight [in, out] and bias [out]."""
    weight: Floats = layer.weight.detach().cpu().T.contiguous().numpy()
    bias: Floats = np.zeros(weight.shape[1], np.float32) if layer.bias is None else layer.bias.detach().cpu().numpy()
    return weight, bias
