"""The utility model: what a visitor chooses next. docs/shop-model.md states it in formulae.

A choice goes down four levels: category → style → shelf → item. Only the first two feel the moment and the recent
history; the last one is context-free and leaves out what the visitor has already met.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.data.generator import rng
from cascade.data.generator.catalog import Catalog
from cascade.data.generator.contexts import context_utilities
from cascade.data.generator.people import AGE_SPREAD, MEAN_AGE, People
from cascade.data.generator.taxonomy import ANY, COLOURS, LOOKS, MATERIALS

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

TASTE_DIM = 6
SHARED_TASTE, OWN_TASTE = 0.6, 0.45
"""Sizes of the part of a visitor's taste that follows gender and age, and of his own."""
AFFINITY = (0.6, 0.25, 0.15)
"""Shares of the three liked categories, most liked first, within `LIKED_SHARE`."""
LIKED_SHARE = 0.85
"""The rest explores all categories as the visitor's gender and age suggest."""
STAY_IN_STYLE = 0.35
"""Chance that the intent of recent choices persists: a style of one of them is looked at again."""
STAY_IN_CATEGORY = 0.3
"""Chance that only its category persists, and a style of it is chosen anew."""
LAG_WEIGHTS: Floats = np.array([0.45, 0.2, 0.15, 0.12, 0.08], np.float32)
"""Which of the last choices the intent is taken from, latest first; normalised over those there are."""
MEMORY = len(LAG_WEIGHTS)
NEW_SHELF_BOOST = 1.0
"""A style's newcomers draw this many times the share that their popularity alone would."""


@dataclass(frozen=True)
class UtilityModel:
    """Every number the choices follow. U users, N items, S styles, C categories, G shelves, K dimensions.

    affinity: float32 [U, C], log share of each category before the moment's effect
    user: float32 [U, K], taste (6), -price sensitivity, gender one-hot (3), standardised age, 1
    item: float32 [N, K], style: float32 [S, K]: utilities are products with `user`
    context_category: float32 [CONTEXTS, C], context_style: float32 [CONTEXTS, S]
    style_category: int32 [S]
    item_shelf: int32 [N]; shelf_style: int32 [G]; a style has a shelf from the start and maybe a newcomers' shelf
    first_shelf: int32 [S]; new_shelf: int32 [S], -1 where the style has none
    new_share: float32 [S], chance of the newcomers' shelf once it is there
    drop_day: int32 [S], the day number on which it comes
    noise_key: uint64 [1], keys the race by which items are chosen (see selection.py)
    """

    affinity: Floats
    user: Floats
    item: Floats
    style: Floats
    context_category: Floats
    context_style: Floats
    style_category: Ints
    item_shelf: Ints
    shelf_style: Ints
    first_shelf: Ints
    new_shelf: Ints
    new_share: Floats
    drop_day: Ints
    noise_key: NDArray[np.uint64]

    @classmethod
    def array_names(cls) -> list[str]:
        return [f.name for f in fields(cls)]

    @property
    def shelves(self) -> int:
        return len(self.shelf_style)

    def styles_of(self, category: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.style_category == category)

    def items_on(self, shelf: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.item_shelf == shelf)

    def category_utility(self, users: NDArray[np.integer], context: Ints) -> Floats:
        """float32 [B, C]"""
        utility: Floats = self.affinity[users] + self.context_category[context]
        return utility

    def style_utility(self, users: NDArray[np.integer], context: Ints, styles: NDArray[np.integer]) -> Floats:
        """float32 [B, len(styles)]; a softmax over a category's styles gives their chances within it."""
        utility: Floats = self.user[users] @ self.style[styles].T + self.context_style[context][:, styles]
        return utility


def build_utility(catalog: Catalog, people: People, seed: int, liked: Ints | None = None) -> UtilityModel:
    """liked: int32 [U, 3] categories, most liked first; drawn where not given."""
    styles, categories = len(catalog.style_names), len(catalog.category_names)
    lean = demographic_lean(seed, categories)
    explore = explored(people, lean)
    if liked is None:
        liked = _draw_liked(explore, seed)
    item, appeal = _item_vectors(catalog, seed)
    shelf = _shelves(catalog, appeal)
    return UtilityModel(
        affinity=log_affinity(liked, explore),
        user=_user_vectors(people, seed),
        item=item,
        style=_style_vectors(catalog, item, seed),
        context_category=context_utilities(seed, "context of categories", categories, 1.0),
        context_style=context_utilities(seed, "context of styles", styles, 0.8),
        style_category=catalog.style_category,
        noise_key=np.array([rng.seed_word(seed, "race")], np.uint64),
        **shelf,
    )


def demographic_lean(seed: int, categories: int) -> Floats:
    """float32 [4 + 1, C]: by gender (3 rows), by standardised age, and a popularity of its own."""
    random = rng.generator(seed, "lean")
    lean = random.normal(0, [[0.0], [0.7], [0.7], [0.6], [0.4]], (5, categories))
    return lean.astype(np.float32)


def explored(people: People, lean: Floats) -> Floats:
    """float32 [U, C]: category shares of a visitor without liked categories."""
    utility = lean[people.gender] + people.age_standard[:, None] * lean[3] + lean[4]
    return _softmax(utility)


def _draw_liked(explore: Floats, seed: int) -> Ints:
    """int32 [U, 3], without repeats, in proportion to `explore` (Gumbel top-k)."""
    random = rng.generator(seed, "liked categories")
    noise = random.gumbel(size=explore.shape).astype(np.float32)
    order = np.argsort(-(np.log(explore) + noise), axis=1)
    return order[:, : len(AFFINITY)].astype(np.int32)


def log_affinity(liked: NDArray[np.integer], explore: Floats) -> Floats:
    """float32 [U, C], log share of each category of visitors with these liked ones, int [U, 3], most liked first."""
    share = (1 - LIKED_SHARE) * explore
    rows = np.arange(len(liked))
    for rank, weight in enumerate(AFFINITY):
        share[rows, liked[:, rank]] += LIKED_SHARE * weight
    logarithm: Floats = np.log(share).astype(np.float32)
    return logarithm


def _user_vectors(people: People, seed: int) -> Floats:
    """Taste follows gender and age in part, the rest is the visitor's own."""
    random = rng.generator(seed, "taste")
    users = len(people.age)
    taste = shared_taste(people, random) + OWN_TASTE * random.normal(0, 1, (users, TASTE_DIM))
    one_hot = np.eye(3)[people.gender]
    rest = [-people.price_sensitivity[:, None], one_hot, people.age_standard[:, None], np.ones((users, 1))]
    return np.concatenate([taste, *rest], axis=1).astype(np.float32)


def shared_taste(people: People, random: np.random.Generator) -> NDArray[np.float64]:
    """The part of taste that follows gender and age, [U, TASTE_DIM]; the first that the stream "taste" is drawn for."""
    by_gender = random.normal(0, 1, (3, TASTE_DIM))
    by_age = random.normal(0, 1, TASTE_DIM)
    return SHARED_TASTE * (by_gender[people.gender] + people.age_standard[:, None] * by_age)


def attribute_tastes(seed: int) -> tuple[Floats, Floats, Floats]:
    """Taste directions of colours, materials and looks, each float32 [n, TASTE_DIM] of unit length."""
    random = rng.generator(seed, "attribute tastes")
    tables = []
    for count in (len(COLOURS), len(MATERIALS), len(LOOKS)):
        table = random.normal(0, 1, (count, TASTE_DIM))
        tables.append((table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32))
    return tables[0], tables[1], tables[2]


def _item_vectors(catalog: Catalog, seed: int) -> tuple[Floats, Floats]:
    """The vectors [N, K], and the popularity [N] within them."""
    random = rng.generator(seed, "items")
    colours, materials, looks = attribute_tastes(seed)
    taste = 0.8 * colours[catalog.colour] + 0.6 * materials[catalog.material] + 0.8 * looks[catalog.look]
    price = np.log(catalog.price)
    for s in range(len(catalog.style_names)):
        rows = catalog.style == s
        if rows.any():
            spread = max(float(price[rows].std()), 0.05)
            price[rows] = (price[rows] - price[rows].mean()) / spread
    gender = np.zeros((len(price), 3))
    gender[catalog.gender != ANY] = [0.0, -2.0, -2.0]
    gendered = np.flatnonzero(catalog.gender != ANY)
    gender[gendered, catalog.gender[gendered]] = 0.4
    centre = (catalog.age_centre - MEAN_AGE) / AGE_SPREAD
    popularity = random.normal(0, 1.1, len(price))
    # -(age - centre)² / 2 without the part that is the same for every item
    bias = popularity - 0.5 * centre**2
    vectors = np.concatenate([taste, price[:, None], gender, centre[:, None], bias[:, None]], axis=1)
    return vectors.astype(np.float32), popularity.astype(np.float32)


def _style_vectors(catalog: Catalog, item: Floats, seed: int) -> Floats:
    random = rng.generator(seed, "styles")
    styles = len(catalog.style_names)
    taste = 0.35 * random.normal(0, 1, (styles, TASTE_DIM))
    for s in range(styles):
        if (catalog.style == s).any():
            taste[s] += item[catalog.style == s, :TASTE_DIM].mean(axis=0)
    gender = random.normal(0, 0.5, (styles, 3))
    age = random.normal(0, 0.4, (styles, 1))
    bias = random.normal(0, 0.4, (styles, 1))
    return np.concatenate([taste, np.zeros((styles, 1)), gender, age, bias], axis=1).astype(np.float32)


def _shelves(catalog: Catalog, popularity: Floats) -> dict[str, Any]:
    styles = len(catalog.style_names)
    first_shelf = np.arange(styles, dtype=np.int32)
    new_shelf = np.full(styles, -1, np.int32)
    new_share = np.zeros(styles, np.float32)
    drop_day = np.zeros(styles, np.int32)
    item_shelf = catalog.style.copy()
    shelf_style = list(range(styles))
    for s in range(styles):
        members = catalog.style == s
        newcomers = members & (catalog.first_day > 0)
        if not newcomers.any():
            continue
        new_shelf[s] = len(shelf_style)
        shelf_style.append(s)
        item_shelf[newcomers] = new_shelf[s]
        drop_day[s] = catalog.first_day[newcomers].max()
        pull = NEW_SHELF_BOOST * np.exp(popularity[newcomers]).sum()
        rest = np.exp(popularity[members & ~newcomers]).sum()
        new_share[s] = min(0.5, pull / (pull + rest))
    return {
        "item_shelf": item_shelf.astype(np.int32),
        "shelf_style": np.array(shelf_style, np.int32),
        "first_shelf": first_shelf,
        "new_shelf": new_shelf,
        "new_share": new_share,
        "drop_day": drop_day,
    }


def _softmax(utility: NDArray[np.floating]) -> Floats:
    weights = np.exp(utility - utility.max(axis=1, keepdims=True))
    shares: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
