"""The catalog: what is for sale, and the attributes that decide whom it appeals to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.data.contract import ITEMS_CONTRACT
from cascade.data.generator import rng
from cascade.data.generator.config import ShopConfig
from cascade.data.generator.taxonomy import (
    AGE_GROUPS,
    ANY,
    CATEGORY_MATERIALS,
    COLOURS,
    FEMALE,
    GENDER_NAMES,
    GENDERED_CATEGORIES,
    LOOKS,
    MALE,
    MATERIALS,
    taxonomy_for,
)
from cascade.data.generator.wording import describe, entitle

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

NEW_SHARE = 0.1
"""Share of a style's items that arrive together on a later day, where the style has such a drop."""
STYLES_WITH_DROP = 0.75


@dataclass(frozen=True)
class Catalog:
    """N items of S styles in C categories.

    table: items.parquet, in its order
    style, colour, material, look: int32 [N], indices of style_names, COLOURS, MATERIALS, LOOKS
    gender: int32 [N], 0 anyone, 1 women, 2 men
    age_centre: float32 [N], the age the item appeals to most
    first_day: int32 [N], the day number from which the item is for sale; 0 or the style's one drop day
    style_category: int32 [S]
    """

    table: pa.Table
    style_names: tuple[str, ...]
    category_names: tuple[str, ...]
    style_category: Ints
    style: Ints
    colour: Ints
    material: Ints
    look: Ints
    gender: Ints
    age_centre: Floats
    first_day: Ints

    @property
    def item_ids(self) -> list[str]:
        return list(self.table.column("item_id").to_pylist())

    @property
    def price(self) -> Floats:
        prices: Floats = self.table.column("price").to_numpy()
        return prices


def drop_days(style: Ints, styles: int, days: int, random: np.random.Generator) -> Ints:
    """int32 [N]: 0 for what is there from the start; one later day per style for the style's newcomers.

    A style's newcomers arrive together, because the utility model keeps them on one shelf (docs/shop-model.md).
    """
    first_day = np.zeros(len(style), np.int32)
    for s in range(styles):
        members = np.flatnonzero(style == s)
        has_drop, share_day = random.random(2)
        newcomers = random.permutation(members)[: max(3, round(NEW_SHARE * len(members)))]
        if days > 1 and len(members) >= 9 and has_drop < STYLES_WITH_DROP:
            first_day[newcomers] = 1 + int(share_day * (days - 1))
    return first_day


def build_catalog(config: ShopConfig) -> Catalog:
    """The built-in shop's catalog, from the configuration alone."""
    random = rng.generator(config.seed, "catalog")
    taxonomy = taxonomy_for(config.items)
    category_names = tuple(taxonomy)
    style_names = tuple(style for styles in taxonomy.values() for style in styles)
    medians = np.array([price for styles in taxonomy.values() for price in styles.values()])
    style_category = np.repeat(np.arange(len(taxonomy), dtype=np.int32), [len(s) for s in taxonomy.values()])

    n = config.items
    style = _styles(n, len(style_names), random)
    category = style_category[style]
    colour = random.integers(len(COLOURS), size=n).astype(np.int32)
    material = _materials(category, category_names, random)
    look = random.integers(len(LOOKS), size=n).astype(np.int32)
    age_group = random.integers(len(AGE_GROUPS), size=n)
    gendered = np.isin(np.array(category_names)[category], GENDERED_CATEGORIES)
    gender = np.where(gendered, random.choice([ANY, FEMALE, MALE], size=n, p=[0.3, 0.4, 0.3]), ANY).astype(np.int32)
    price = _prices(medians[style], random)

    ids = rng.uuids(config.seed, "item ids", n)
    words = [
        (style_names[style[i]], tuple(COLOURS)[colour[i]], MATERIALS[material[i]], LOOKS[look[i]]) for i in range(n)
    ]
    variants = random.integers(2**31, size=n)
    table = pa.table(
        {
            "item_id": ids,
            "title": [entitle(*words[i], AGE_GROUPS[age_group[i]], int(gender[i]), int(variants[i])) for i in range(n)],
            "description": [
                describe(*words[i], AGE_GROUPS[age_group[i]], int(gender[i]), int(variants[i])) for i in range(n)
            ],
            "category_l1": [category_names[c] for c in category],
            "category_l2": [style_names[s] for s in style],
            "price": price,
            "gender": [GENDER_NAMES[g] for g in gender],
            "image": [f"{item_id}.jpg" for item_id in ids],
        },
        schema=ITEMS_CONTRACT.schema,
    )
    return Catalog(
        table=table,
        style_names=style_names,
        category_names=category_names,
        style_category=style_category,
        style=style,
        colour=colour,
        material=material,
        look=look,
        gender=gender,
        age_centre=np.array([g.centre for g in AGE_GROUPS], np.float32)[age_group],
        first_day=drop_days(style, len(style_names), config.days, rng.generator(config.seed, "drops")),
    )


def _styles(items: int, styles: int, random: np.random.Generator) -> Ints:
    """int32 [N], shuffled; sizes vary by a factor of a few, and no style is empty."""
    weights = random.gamma(6.0, size=styles)
    sizes = 1 + random.multinomial(items - styles, weights / weights.sum())
    style = np.repeat(np.arange(styles, dtype=np.int32), sizes)
    random.shuffle(style)
    return style


def _materials(category: Ints, names: tuple[str, ...], random: np.random.Generator) -> Ints:
    material = np.zeros(len(category), np.int32)
    draws = random.random(len(category))
    for c, name in enumerate(names):
        choices = np.array([MATERIALS.index(m) for m in CATEGORY_MATERIALS[name]], np.int32)
        rows = category == c
        material[rows] = choices[(draws[rows] * len(choices)).astype(int)]
    return material


def _prices(medians: NDArray[np.float64], random: np.random.Generator) -> Floats:
    """Log-normal around the style's median, ending in .99 (or .49 below 10)."""
    raw = medians * np.exp(random.normal(0, 0.35, len(medians)))
    ending = np.where(raw < 10, 0.49, 0.99)
    prices: Floats = np.maximum(np.floor(raw) + ending, 0.99).astype(np.float32)
    return prices
