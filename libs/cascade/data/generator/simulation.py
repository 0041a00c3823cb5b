"""A day's choices, and the memory that visitors carry from day to day."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.data.generator import rng
from cascade.data.generator.selection import draw, draw_shelves, draw_styles
from cascade.data.generator.utility import LAG_WEIGHTS, MEMORY, STAY_IN_CATEGORY, STAY_IN_STYLE, UtilityModel
from cascade.data.generator.visits import Visits

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass
class Memory:
    """What the choices of a day need of the days before.

    styles: int16 [U, MEMORY], styles of the last choices, latest first, -1 where there was none
    visits: uint16 [U, G], how often each shelf was visited
    """

    styles: NDArray[np.int16]
    visits: NDArray[np.uint16]

    @classmethod
    def empty(cls, users: int, shelves: int) -> Memory:
        return cls(np.full((users, MEMORY), -1, np.int16), np.zeros((users, shelves), np.uint16))


def lag_weights(styles: NDArray[np.integer]) -> Floats:
    """float32 [B, MEMORY]: chances of each remembered choice, normalised over those there are; rows of zeros
    where nothing is remembered."""
    weights = np.where(styles >= 0, LAG_WEIGHTS, np.float32(0))
    total = weights.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return shares


def walk(model: UtilityModel, visits: Visits, memory: Memory, seed: int, day: int) -> tuple[Ints, Ints]:
    """The shelf [E] of each event and how often its user had visited that shelf before [E].

    Advances `memory` to the end of the day. The events of one user follow one another, so the loop runs over
    their ranks; each turn handles all users who have that many events.
    """
    random = rng.generator(seed, "choices", day)
    events = len(visits)
    mode, lag, pick_category, pick_style, pick_shelf = (random.random(events, np.float32) for _ in range(5))
    shelf = np.zeros(events, np.int32)
    visit = np.zeros(events, np.int32)

    fresh = mode >= STAY_IN_STYLE + STAY_IN_CATEGORY
    fresh |= (visits.rank == 0) & (memory.styles[visits.user, 0] < 0)  # nothing to persist yet
    style = np.full(events, -1, np.int32)
    rows = np.flatnonzero(fresh)
    utility = model.category_utility(visits.user[rows], visits.context[rows])
    category = draw(utility, pick_category[rows]).astype(np.int32)
    style[rows] = draw_styles(model, visits.user[rows], category, visits.context[rows], pick_style[rows])

    order = np.argsort(visits.rank, kind="stable")
    bounds = np.searchsorted(visits.rank[order], np.arange(int(visits.rank.max(initial=-1)) + 2))
    for start, end in itertools.pairwise(bounds):
        rows = order[start:end]
        users = visits.user[rows]
        recent = memory.styles[users]  # [B, MEMORY]
        kept = np.flatnonzero(~fresh[rows])
        if len(kept):
            limits = np.cumsum(lag_weights(recent[kept]), axis=1)
            limits /= limits[:, -1:]
            source = np.minimum((lag[rows[kept], None] > limits).sum(axis=1), MEMORY - 1)
            remembered = recent[kept, source].astype(np.int32)
            style[rows[kept]] = remembered
            other = kept[mode[rows[kept]] >= STAY_IN_STYLE]
            at = rows[other]
            category = model.style_category[style[at]]
            style[at] = draw_styles(model, visits.user[at], category, visits.context[at], pick_style[at])
        shelf[rows] = draw_shelves(model, style[rows], day, pick_shelf[rows])
        visit[rows] = memory.visits[users, shelf[rows]]
        memory.visits[users, shelf[rows]] += 1
        memory.styles[users, 1:] = recent[:, :-1]
        memory.styles[users, 0] = style[rows]
    return shelf, visit
