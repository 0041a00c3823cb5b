"""The true probability of the next choice, from the same model that draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.data.generator.contexts import DAY_S, context_rows
from cascade.data.generator.simulation import lag_weights
from cascade.data.generator.utility import MEMORY, STAY_IN_CATEGORY, STAY_IN_STYLE, UtilityModel

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

UNKNOWN = -1
_REPRESENTATIVES = 512
"""Users whose mean stands for a user who is not known."""
_CHUNK = 512


@dataclass(frozen=True)
class Levels:
    """A visitor's chances before history: float32 category [B, C], style [B, S] within its category, and
    item [B, N], in proportion to the chances within its shelf."""

    category: Floats
    style: Floats
    item: Floats

    def put(self, rows: NDArray[np.bool_], other: Levels) -> None:
        self.category[rows], self.style[rows], self.item[rows] = other.category, other.style, other.item


class Oracle:
    """Choice probabilities over all N items, in the catalog's order."""

    def __init__(self, model: UtilityModel, first_epoch_day: int) -> None:
        self._model = model
        self._first_epoch_day = first_epoch_day
        self._by_shelf = np.argsort(model.item_shelf, kind="stable")
        self._place = np.argsort(self._by_shelf, kind="stable")
        self._shelf = model.item_shelf[self._by_shelf]
        self._shelf_starts = np.searchsorted(self._shelf, np.arange(model.shelves))
        self._item_style = model.shelf_style[model.item_shelf]
        users = len(model.affinity)
        self._representatives = np.unique(np.linspace(0, users - 1, min(users, _REPRESENTATIVES)).astype(np.int32))
        self._mean_item: Floats | None = None

    def probability(
        self, user: Ints, device: Ints, timestamp: NDArray[np.int64], recent: Sequence[Sequence[int]]
    ) -> Floats:
        """float32 [B, N], rows sum to 1.

        user: int32 [B], UNKNOWN for one who is not known
        recent: item positions met before, oldest first; all there were, as each leaves the race when it is met
        """
        out = np.zeros((len(user), len(self._by_shelf)), np.float32)
        for start in range(0, len(user), _CHUNK):
            rows = slice(start, start + _CHUNK)
            out[rows] = self._chunk(user[rows], device[rows], timestamp[rows], recent[rows])
        return out

    def _chunk(self, user: Ints, device: Ints, timestamp: NDArray[np.int64], recent: Sequence[Sequence[int]]) -> Floats:
        model = self._model
        context = context_rows(device, timestamp)
        levels = self._levels(np.maximum(user, 0), context)
        unknown = user == UNKNOWN
        if unknown.any():
            levels.put(unknown, self._mean_levels(context[unknown]))

        base = levels.category[:, model.style_category] * levels.style  # [B, S]
        styles = np.full((len(user), MEMORY), -1, np.int32)
        for row, items in enumerate(recent):
            last = [self._item_style[i] for i in reversed(items[-MEMORY:])]
            styles[row, : len(last)] = last
        in_style = _scatter(styles, lag_weights(styles), base.shape[1])
        in_category = np.zeros_like(levels.category)  # [B, C]
        for s in range(base.shape[1]):
            in_category[:, model.style_category[s]] += in_style[:, s]
        persisting = STAY_IN_STYLE * in_style
        persisting += STAY_IN_CATEGORY * in_category[:, model.style_category] * levels.style
        mixed = persisting + (1 - STAY_IN_STYLE - STAY_IN_CATEGORY) * base
        style = np.where(styles[:, :1] >= 0, mixed, base)

        weight = levels.item[:, self._by_shelf]  # [B, N], shelf by shelf
        weight *= self._not_met(recent)
        total = np.add.reduceat(weight, self._shelf_starts, axis=1)  # [B, G]
        scale = self._shelf_share(style, timestamp) / total
        weight *= scale[:, self._shelf]
        chosen: Floats = weight[:, self._place]
        return chosen

    def _levels(self, users: Ints, context: Ints) -> Levels:
        model = self._model
        category = np.exp(model.category_utility(users, context))
        category /= category.sum(axis=1, keepdims=True)
        style = np.exp(model.style_utility(users, context, np.arange(len(model.style))))
        for c in range(category.shape[1]):
            members = model.styles_of(c)
            style[:, members] /= style[:, members].sum(axis=1, keepdims=True)
        return Levels(category, style, np.exp(model.user[users] @ model.item.T))

    def _mean_levels(self, context: Ints) -> Levels:
        """The mean over representative users, level by level, at each row's moment."""
        users = self._representatives
        if self._mean_item is None:
            item = np.exp(self._model.user[users] @ self._model.item.T)[:, self._by_shelf]
            item /= np.add.reduceat(item, self._shelf_starts, axis=1)[:, self._shelf]
            self._mean_item = item.mean(axis=0)[self._place]
        moments, row = np.unique(context, return_inverse=True)
        category, style = [], []
        for moment in moments:
            levels = self._levels(users, np.full(len(users), moment, np.int32))
            mean = levels.category.mean(axis=0)
            joint = (levels.category[:, self._model.style_category] * levels.style).mean(axis=0)
            category.append(mean)
            style.append(joint / mean[self._model.style_category])
        return Levels(np.array(category)[row], np.array(style)[row], np.tile(self._mean_item, (len(row), 1)))

    def _not_met(self, recent: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        """bool [B, N], shelf by shelf: items the current round of their shelf has not brought yet."""
        met = np.zeros((len(recent), len(self._by_shelf)), np.int32)
        for row, items in enumerate(recent):
            np.add.at(met[row], self._place[np.asarray(items, np.intp)], 1)
        least = np.minimum.reduceat(met, self._shelf_starts, axis=1)
        fresh: NDArray[np.bool_] = met == least[:, self._shelf]
        return fresh

    def _shelf_share(self, style: Floats, timestamp: NDArray[np.int64]) -> Floats:
        """float32 [B, G]"""
        model = self._model
        day = timestamp // DAY_S - self._first_epoch_day
        there = (model.new_shelf >= 0) & (model.drop_day <= day[:, None])  # [B, S]
        new = np.where(there, model.new_share, np.float32(0)) * style
        share = np.zeros((len(style), model.shelves), np.float32)
        share[:, model.first_shelf] = style - new
        stocked = np.flatnonzero(model.new_shelf >= 0)
        share[:, model.new_shelf[stocked]] = new[:, stocked]
        return share


def _scatter(columns: Ints, weights: Floats, width: int) -> Floats:
    """float32 [B, width]: weights [B, M] added up at their columns [B, M]; columns below 0 are left out."""
    out = np.zeros((len(columns), width), np.float32)
    rows = np.arange(len(columns))
    for m in range(columns.shape[1]):
        there = columns[:, m] >= 0
        out[rows[there], columns[there, m]] += weights[there, m]
    return out
