"""Drawing from the utility model: exact, in bulk, and the same whenever it is done.

An item is chosen by a race. Item i of a shelf arrives for user u at time E(u, i) / exp(utility), with E exponential
and keyed by a hash of (u, i). The k-th visit to a shelf takes the k-th arrival. By the memorylessness of the
exponential that is a choice with probability exp(utility) / sum over the items not yet met, each time (Plackett
1975; Luce 1959); and because E is hashed, day 9 needs nothing of days 1 to 8 but the count k. When all items of a
shelf were met, the next round starts with fresh noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.data.generator import rng
from cascade.data.generator.utility import UtilityModel

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

_CHUNK = 8192
"""Rows at once: a chunk's noise stays in a core's cache."""


def draw(utility: Floats, uniform: Floats) -> NDArray[np.intp]:
    """One index per row of `utility` [B, M] by its softmax, from one uniform number per row [B]."""
    utility = utility - utility.max(axis=1, keepdims=True)
    cumulative = np.cumsum(np.exp(utility), axis=1)
    below = cumulative < (uniform * cumulative[:, -1])[:, None]
    index: NDArray[np.intp] = np.minimum(below.sum(axis=1), utility.shape[1] - 1)
    return index


def draw_styles(model: UtilityModel, users: Ints, category: Ints, context: Ints, uniform: Floats) -> Ints:
    """int32 [B]: a style of each row's category."""
    style = np.zeros(len(users), np.int32)
    order = np.argsort(category, kind="stable")
    bounds = np.searchsorted(category[order], np.arange(model.affinity.shape[1] + 1))
    for c in range(model.affinity.shape[1]):
        rows = order[bounds[c] : bounds[c + 1]]
        if len(rows):
            styles = model.styles_of(c)
            utility = model.style_utility(users[rows], context[rows], styles)
            style[rows] = styles[draw(utility, uniform[rows])]
    return style


def draw_shelves(model: UtilityModel, style: Ints, day: int, uniform: Floats) -> Ints:
    """int32 [B]: the style's first shelf, or its newcomers' once they are there."""
    there = (model.new_shelf[style] >= 0) & (model.drop_day[style] <= day)
    return np.where(there & (uniform < model.new_share[style]), model.new_shelf[style], model.first_shelf[style])


def choose_items(model: UtilityModel, users: Ints, shelf: Ints, visit: Ints) -> Ints:
    """int32 [B] item positions: what each user meets on his visit-th visit (from 0) to the shelf."""
    chosen = np.zeros(len(users), np.int32)
    order = np.argsort(shelf, kind="stable")
    bounds = np.searchsorted(shelf[order], np.arange(model.shelves + 1))
    for g in range(model.shelves):
        items = model.items_on(g)
        vectors = model.item[items].T
        words = rng.scatter(items)
        for start in range(bounds[g], bounds[g + 1], _CHUNK):
            rows = order[start : min(start + _CHUNK, bounds[g + 1])]
            chosen[rows] = items[_race(model, users[rows], vectors, words, visit[rows])]
    return chosen


def _race(
    model: UtilityModel, users: Ints, vectors: Floats, words: NDArray[np.uint64], visit: Ints
) -> NDArray[np.intp]:
    """The (visit mod M)-th of the shelf's M items to arrive, [B]."""
    rounds, place = np.divmod(visit, len(words))
    key = rng.scatter(users.astype(np.int64) << np.int64(16) | rounds) ^ model.noise_key
    noise = rng.to_uniform(rng.mix(key[:, None] ^ words))  # [B, M]
    # arrival = -log(noise) / exp(utility)
    arrival = np.log(noise)
    arrival *= -np.exp(-(model.user[users] @ vectors))
    winner: NDArray[np.intp] = np.argmin(arrival, axis=1)
    later = np.flatnonzero(place)
    if len(later):
        ranked = np.argsort(arrival[later], axis=1)
        winner[later] = ranked[np.arange(len(later)), place[later]]
    return winner
