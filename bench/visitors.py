"""What can be known of a visitor of the built-in shop from what he did: his posterior, by Markov chain Monte Carlo.

The shop's parameters are taken as known; a visitor's own taste, price sensitivity and liked categories are not
(docs/shop-model.md), and have there the priors that `generator/utility.py` and `people.py` draw them from. Metropolis
steps move taste and sensitivity together by a random walk, and liked categories by putting in another one or swapping
two (Gilks, Richardson and Spiegelhalter 1996). Age and gender are known, as `users.parquet` has them of nearly all.

Shapes: B visitors, E events of all of them, S styles of a category at most, M items of a shelf at most, C categories,
T dimensions of taste, K columns of the model's user vectors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade.data.generator import Shop, rng
from cascade.data.generator.contexts import context_rows
from cascade.data.generator.people import SENSITIVITY_SCALE, SENSITIVITY_SHAPE
from cascade.data.generator.simulation import lag_weights
from cascade.data.generator.utility import (
    AFFINITY,
    MEMORY,
    OWN_TASTE,
    STAY_IN_CATEGORY,
    STAY_IN_STYLE,
    TASTE_DIM,
    UtilityModel,
    demographic_lean,
    explored,
    log_affinity,
    shared_taste,
)

Ints = NDArray[np.integer]
Floats = NDArray[np.float32]

SWAPS, LIKED_MOVES, ACCEPTED = 0.4, 2, 0.25
_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Events:
    """visitor: int [E], places among the B; item, device: int [E]; timestamp: int64 [E]; in order of visitor and time,
    all that each ever did"""

    visitor: Ints
    item: Ints
    device: Ints
    timestamp: NDArray[np.int64]


class Posterior:
    """A chain a visitor, all at once."""

    def __init__(self, shop: Shop, users: Ints, events: Events, seed: int) -> None:
        self._model, self._users = shop.model, users
        self._random = torch.Generator().manual_seed(seed)
        self._visitor = torch.from_numpy(events.visitor.astype(np.int64))
        self._vectors = shop.model.user[users]  # [B, K]
        self._events(events)
        seed_of_shop = shop.config.seed
        people = shop.people
        shared = shared_taste(people, rng.generator(seed_of_shop, "taste"))[users]
        self._shared = torch.from_numpy(shared.astype(np.float32))  # [B, T]
        categories = shop.model.affinity.shape[1]
        share = explored(people, demographic_lean(seed_of_shop, categories))[users]
        self._explore = torch.from_numpy(share)  # [B, C]
        self.own = torch.zeros(len(users), TASTE_DIM)
        self.log_sensitivity = torch.full((len(users),), math.log(SENSITIVITY_SHAPE * SENSITIVITY_SCALE))
        self.liked = torch.from_numpy(np.argsort(-share, axis=1)[:, : len(AFFINITY)].copy())
        self._scale = torch.full((len(users),), 0.35)
        self._items, self._styles = self._within(self.own, self.log_sensitivity)
        self._categories = self._category(self.liked)
        self._likelihood = self._sum(self._items, self._styles, self._categories)

    def step(self, number: int, *, tune: bool) -> None:
        """One turn of both kinds of moves. tune: also the length of the walk's steps, before samples are taken"""
        count = len(self._users)
        move = torch.randn(count, TASTE_DIM + 1, generator=self._random) * self._scale[:, None]
        own, sensitivity = self.own + move[:, :TASTE_DIM], self.log_sensitivity + move[:, TASTE_DIM]
        items, styles = self._within(own, sensitivity)
        likelihood = self._sum(items, styles, self._categories)
        gain = likelihood + _prior(own, sensitivity) - self._likelihood - _prior(self.own, self.log_sensitivity)
        taken = self._taken(gain)
        of_events = taken[self._visitor]
        self.own = torch.where(taken[:, None], own, self.own)
        self.log_sensitivity = torch.where(taken, sensitivity, self.log_sensitivity)
        self._items = torch.where(of_events, items, self._items)
        self._styles = torch.where(of_events, styles, self._styles)
        self._likelihood = torch.where(taken, likelihood, self._likelihood)
        if tune:
            self._scale *= torch.exp((taken.float() - ACCEPTED) / math.sqrt(number + 1))
        for _ in range(LIKED_MOVES):
            self._move_liked()

    def model(self) -> UtilityModel:
        """The shop's, with the visitors as the chains have them now."""
        vectors = self._vectors.copy()
        vectors[:, :TASTE_DIM] = (self._shared + OWN_TASTE * self.own).numpy()
        vectors[:, TASTE_DIM] = -self.log_sensitivity.exp().numpy()
        return dataclasses.replace(self._model, user=vectors, affinity=self._affinity(self.liked).numpy())

    def _events(self, events: Events) -> None:
        """What the likelihood of every event needs and no move changes."""
        model, visitor = self._model, events.visitor
        style = model.shelf_style[model.item_shelf[events.item]]
        category = model.style_category[style]
        context = context_rows(events.device, events.timestamp)
        known = self._vectors.copy()
        known[:, : TASTE_DIM + 1] = 0
        remembered = _remembered(visitor, style)
        weight = lag_weights(remembered)
        of_category = np.where(remembered >= 0, model.style_category[remembered] == category[:, None], False)
        self._in_style = torch.from_numpy((weight * (remembered == style[:, None])).sum(1))
        self._in_category = torch.from_numpy((weight * of_category).sum(1))
        self._remembers = torch.from_numpy(remembered[:, 0] >= 0)

        choices = _padded([model.styles_of(c) for c in range(model.affinity.shape[1])])[category]  # [E, S]
        vectors = model.style[np.maximum(choices, 0)]
        base = np.einsum("esk,ek->es", vectors, known[visitor])
        base += np.take_along_axis(model.context_style[context], np.maximum(choices, 0), 1)
        base[choices < 0] = _NEVER
        self._style_taste, self._style_base = torch.from_numpy(vectors[:, :, :TASTE_DIM].copy()), torch.from_numpy(base)
        self._style_at = torch.from_numpy((choices == style[:, None]).argmax(1))[:, None]

        shelf = model.item_shelf[events.item]
        shelves = [model.items_on(g) for g in range(model.shelves)]
        on_shelf = _padded(shelves)[shelf]  # [E, M]
        vectors = model.item[np.maximum(on_shelf, 0)]
        base = np.einsum("emk,ek->em", vectors, known[visitor])
        base[~_waiting(visitor, events.item, shelf, shelves, on_shelf)] = _NEVER
        self._item_taste = torch.from_numpy(vectors[:, :, : TASTE_DIM + 1].copy())
        self._item_base = torch.from_numpy(base)
        self._item_at = torch.from_numpy((on_shelf == events.item[:, None]).argmax(1))[:, None]

        self._context = torch.from_numpy(model.context_category[context])
        self._category_at = torch.from_numpy(category.astype(np.int64))[:, None]

    def _within(self, own: Tensor, log_sensitivity: Tensor) -> tuple[Tensor, Tensor]:
        """Log-chance of each event's item on its shelf, and chance of its style in its category, [E] each."""
        mine = torch.cat([self._shared + OWN_TASTE * own, -log_sensitivity.exp()[:, None]], 1)[self._visitor]
        items = torch.bmm(self._item_taste, mine[:, :, None])[:, :, 0] + self._item_base
        styles = torch.bmm(self._style_taste, mine[:, :TASTE_DIM, None])[:, :, 0] + self._style_base
        return _log_chance(items, self._item_at), _log_chance(styles, self._style_at).exp()

    def _category(self, liked: Tensor) -> Tensor:
        """Chance of each event's category by a new intent, [E]."""
        return _log_chance(self._affinity(liked)[self._visitor] + self._context, self._category_at).exp()

    def _affinity(self, liked: Tensor) -> Tensor:
        return torch.from_numpy(log_affinity(liked.numpy(), self._explore.numpy()))

    def _sum(self, items: Tensor, styles: Tensor, categories: Tensor) -> Tensor:
        """Log-likelihood of each visitor, [B]."""
        new = 1 - STAY_IN_STYLE - STAY_IN_CATEGORY
        mixed = STAY_IN_STYLE * self._in_style + (STAY_IN_CATEGORY * self._in_category + new * categories) * styles
        chance = torch.where(self._remembers, mixed, categories * styles)
        return torch.zeros(len(self._users)).index_add_(0, self._visitor, items + chance.log())

    def _move_liked(self) -> None:
        count, categories = self._explore.shape
        at = torch.arange(count)
        place = torch.randint(len(AFFINITY), (count,), generator=self._random)
        beside = (place + 1) % len(AFFINITY)
        swapped, other = self.liked.clone(), self.liked.clone()
        swapped[at, place], swapped[at, beside] = self.liked[at, beside], self.liked[at, place]
        other[at, place] = torch.randint(categories, (count,), generator=self._random)
        swaps = torch.rand(count, generator=self._random) < SWAPS
        liked = torch.where(swaps[:, None], swapped, other)
        chances = self._category(liked)
        likelihood = self._sum(self._items, self._styles, chances)
        taken = self._taken(likelihood + self._drawn(liked) - self._likelihood - self._drawn(self.liked))
        self.liked = torch.where(taken[:, None], liked, self.liked)
        self._categories = torch.where(taken[self._visitor], chances, self._categories)
        self._likelihood = torch.where(taken, likelihood, self._likelihood)

    def _drawn(self, liked: Tensor) -> Tensor:
        """Log-chance that these were drawn, one after another without repeats, [B]."""
        share = self._explore.gather(1, liked)
        left = 1 - torch.cat([torch.zeros(len(liked), 1), share.cumsum(1)[:, :-1]], 1)
        chance = (share.log() - left.log()).sum(1)
        repeats = liked.sort(1).values.diff(dim=1).eq(0).any(1)
        return torch.where(repeats, torch.tensor(-math.inf), chance)

    def _taken(self, gain: Tensor) -> Tensor:
        return torch.rand(len(gain), generator=self._random).log() < gain


def _prior(own: Tensor, log_sensitivity: Tensor) -> Tensor:
    """Log-density of taste and sensitivity, the latter by its logarithm, up to a constant, [B]."""
    return -0.5 * own.square().sum(1) + SENSITIVITY_SHAPE * log_sensitivity - log_sensitivity.exp() / SENSITIVITY_SCALE


def _log_chance(utility: Tensor, at: Tensor) -> Tensor:
    chosen: Tensor = utility.gather(1, at)[:, 0] - torch.logsumexp(utility, 1)
    return chosen


def _padded(lists: Sequence[Ints]) -> NDArray[np.int64]:
    """int64 [lists, longest], -1 behind a list's end."""
    table = np.full((len(lists), max(map(len, lists))), -1, np.int64)
    for row, one in enumerate(lists):
        table[row, : len(one)] = one
    return table


def _remembered(visitor: Ints, style: Ints) -> NDArray[np.int32]:
    """The styles of the MEMORY events before each, latest first, int32 [E, MEMORY], -1 where there were fewer."""
    number = np.arange(len(visitor))
    first = np.searchsorted(visitor, visitor)
    table = np.full((len(visitor), MEMORY), -1, np.int32)
    for lag in range(MEMORY):
        there = np.flatnonzero(number - first > lag)
        table[there, lag] = style[there - lag - 1]
    return table


def _waiting(
    visitor: Ints, item: Ints, shelf: Ints, shelves: Sequence[Ints], on_shelf: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which items of each event's shelf its visitor had not met in the shelf's round, bool [E, M]."""
    waiting = on_shelf >= 0
    met: dict[tuple[int, int], NDArray[np.int64]] = {}
    for event, (who, what, where) in enumerate(zip(visitor.tolist(), item.tolist(), shelf.tolist(), strict=True)):
        count = met.setdefault((who, where), np.zeros(len(shelves[where]), np.int64))
        waiting[event, : len(count)] &= count == count.min()
        count[np.searchsorted(shelves[where], what)] += 1
    return waiting
