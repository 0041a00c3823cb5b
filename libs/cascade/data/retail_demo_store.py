"""Brings a Retail Demo Store folder (products.yaml, users.json.gz) into a dataset folder.

The catalog and the visitors are the folder's; the interactions are simulated from the personas, with the same
utility model as the built-in shop's (docs/shop-model.md), and the pictures, which that project does not ship beside
its tables, are drawn. What the tables leave open (colour, material and look not told in the text, the age an item
is for, tastes, habits) is drawn by the seed.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from cascade.data.contract import ITEMS_CONTRACT, USERS_CONTRACT
from cascade.data.errors import SourceUnreadable
from cascade.data.files import Progress
from cascade.data.generator import rng
from cascade.data.generator.catalog import Catalog, drop_days
from cascade.data.generator.config import FIRST_DAY, ShopConfig
from cascade.data.generator.people import People, habits
from cascade.data.generator.shop import Shop, write_shop
from cascade.data.generator.taxonomy import AGE_GROUPS, COLOURS, GENDER_CODES, GENDER_NAMES, LOOKS, MATERIALS
from cascade.data.generator.utility import AFFINITY, build_utility

PRODUCTS, USERS = "products.yaml", "users.json.gz"
INTERACTIONS_PER_USER_DAY = 6.0

# discount_persona → how strongly a price above the style's usual one repels
PRICE_SENSITIVITY = {"lower_priced_products": 1.3, "all_discounts": 0.8, "discount_indifferent": 0.2}

# words of the text → the colour, material or look they stand for
_COLOUR_WORDS = {
    "gray": "grey", "silver": "grey", "charcoal": "grey", "cream": "white", "ivory": "white", "turquoise": "teal",
    "gold": "yellow", "golden": "yellow", "khaki": "olive", "burgundy": "red", "crimson": "red", "mauve": "purple",
    "lavender": "purple", "tan": "beige", "camel": "beige", "caramel": "brown", "coral": "orange",
}  # fmt: skip
_MATERIAL_WORDS = {
    "denim": "cotton", "fabric": "cotton", "knit": "wool", "knitted": "wool", "wooden": "oak", "wood": "oak",
    "walnut": "oak", "metal": "steel", "stainless": "steel", "copper": "brass", "crystal": "glass",
    "porcelain": "ceramic", "stoneware": "ceramic", "suede": "leather", "wicker": "bamboo", "rattan": "bamboo",
}  # fmt: skip
_LOOK_WORDS = {
    "sleek": "minimalist", "modern": "minimalist", "contemporary": "minimalist", "retro": "vintage",
    "classic": "vintage", "timeless": "vintage", "rugged": "rustic", "natural": "rustic", "adventure": "sporty",
    "casual": "sporty", "performance": "sporty", "elegance": "elegant", "luxurious": "elegant",
    "sophisticated": "elegant", "chic": "elegant", "whimsical": "playful", "vibrant": "playful", "festive": "playful",
}  # fmt: skip


def import_retail_demo_store(
    source: Path | str,
    target: Path | str,
    days: int = 10,
    seed: int = 1,
    progress: Progress | None = None,
    first_day: date = FIRST_DAY,
) -> Shop:
    """Writes a whole dataset folder, truth/ included; raises SourceUnreadable for a folder it cannot read."""
    source = Path(source)
    products = _list_of_records(source / PRODUCTS, _load_yaml, ("id", "name", "category", "style", "price"), ("price",))
    users = _list_of_records(
        source / USERS, _load_json, ("id", "age", "gender", "persona", "discount_persona"), ("age",)
    )
    config = ShopConfig(
        users=len(users),
        items=len(products),
        days=days,
        interactions_per_user_day=INTERACTIONS_PER_USER_DAY,
        first_day=first_day,
        seed=seed,
    )
    catalog = _catalog(products, config)
    people, liked = _people(users, catalog.category_names, config)
    shop = Shop(config, catalog, people, build_utility(catalog, people, seed, liked))
    write_shop(shop, target, progress)
    return shop


def _load_yaml(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads it ten times as fast
    return yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506  # nosec B506 - both are safe


def _load_json(path: Path) -> Any:
    with gzip.open(path, "rb") as file:
        return json.load(file)


def _list_of_records(
    path: Path, load: Callable[[Path], Any], needed: Sequence[str], numbers: Sequence[str]
) -> list[dict[str, Any]]:
    """The file's records, each with the `needed` fields, of which `numbers` are numbers, and an id of its own."""
    if not path.is_file():
        raise SourceUnreadable(
            f"{path} does not exist; give a folder with {PRODUCTS} and {USERS} of the Retail Demo Store"
        )
    try:
        records = load(path)
    except (yaml.YAMLError, ValueError, OSError, EOFError, zlib.error) as error:
        raise SourceUnreadable(f"{path} cannot be read: {error}") from error
    if not isinstance(records, list) or not records or not all(isinstance(r, dict) for r in records):
        raise SourceUnreadable(f"{path} should hold a list of records, and holds {type(records).__name__}")
    for number, record in enumerate(records):
        missing = [name for name in needed if record.get(name) is None]
        if missing:
            raise SourceUnreadable(f"{path}: record {number} has no {', '.join(missing)}; bring the file whole")
        for name in numbers:
            value = record[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
                raise SourceUnreadable(f"{path}: record {number} has {name} {value!r}; it should be a number from 0 up")
    repeated = [value for value, count in Counter(str(record["id"]) for record in records).items() if count > 1]
    if repeated:
        raise SourceUnreadable(f"{path}: id {repeated[0]!r} stands more than once; keep one record of each id")
    return records


def _catalog(products: list[dict[str, Any]], config: ShopConfig) -> Catalog:
    random = rng.generator(config.seed, "imported items")
    n = len(products)
    pairs = sorted({(str(p["category"]), str(p["style"])) for p in products})
    categories = sorted({category for category, _ in pairs})
    style = np.array([pairs.index((str(p["category"]), str(p["style"]))) for p in products], np.int32)
    texts = [f"{p['name']} {p.get('description') or ''}".lower() for p in products]
    ids = [str(p["id"]) for p in products]
    gender = [GENDER_CODES.get(str(p.get("gender_affinity")), 0) for p in products]
    age_group = random.integers(len(AGE_GROUPS), size=(len(pairs), 2))  # a style is for two of the age groups
    table = pa.table(
        {
            "item_id": ids,
            "title": [str(p["name"]) for p in products],
            "description": [p.get("description") for p in products],
            "category_l1": [str(p["category"]) for p in products],
            "category_l2": [str(p["style"]) for p in products],
            "price": pa.array([p["price"] for p in products], pa.float32()),
            "gender": [GENDER_NAMES[g] for g in gender],
            "image": [f"{item_id}.jpg" for item_id in ids],
        },
        schema=ITEMS_CONTRACT.schema,
    )
    return Catalog(
        table=table,
        style_names=tuple(name for _, name in pairs),
        category_names=tuple(categories),
        style_category=np.array([categories.index(category) for category, _ in pairs], np.int32),
        style=style,
        colour=_found(texts, tuple(COLOURS), _COLOUR_WORDS, random),
        material=_found(texts, MATERIALS, _MATERIAL_WORDS, random),
        look=_found(texts, tuple(look.name for look in LOOKS), _LOOK_WORDS, random),
        gender=np.array(gender, np.int32),
        age_centre=np.array([g.centre for g in AGE_GROUPS], np.float32)[age_group[style, random.integers(2, size=n)]],
        first_day=drop_days(style, len(pairs), config.days, rng.generator(config.seed, "drops")),
    )


def _found(
    texts: list[str], names: tuple[str, ...], synonyms: dict[str, str], random: np.random.Generator
) -> NDArray[np.int32]:
    """int32 [N]: the first of the names (or a synonym of one) in each text; drawn where there is none."""
    word_of = {**{name: n for n, name in enumerate(names)}, **{w: names.index(s) for w, s in synonyms.items()}}
    pattern = re.compile(r"\b(" + "|".join(sorted(word_of, key=len, reverse=True)) + r")\b")
    drawn = random.integers(len(names), size=len(texts))
    matches = [pattern.search(text) for text in texts]
    return np.array([word_of[m.group(1)] if m is not None else drawn[n] for n, m in enumerate(matches)], np.int32)


def _people(
    users: list[dict[str, Any]], categories: tuple[str, ...], config: ShopConfig
) -> tuple[People, NDArray[np.int32]]:
    """The visitors, and their liked categories int32 [U, 3]."""
    random = rng.generator(config.seed, "imported people")
    code = {name: n for n, name in enumerate(categories)}
    liked = np.array([_liked(user, code) for user in users], np.int32)
    usual = np.array([PRICE_SENSITIVITY.get(str(u["discount_persona"]), 0.7) for u in users])
    genders = [str(user["gender"]) for user in users]
    table = pa.table(
        {
            "user_id": [str(user["id"]) for user in users],
            "age": [int(user["age"]) for user in users],
            "gender": [g if g in GENDER_CODES else None for g in genders],
        },
        schema=USERS_CONTRACT.schema,
    )
    people = People(
        table=table,
        age=np.array([user["age"] for user in users], np.float32),
        gender=np.array([GENDER_CODES.get(g, 0) for g in genders], np.int32),
        price_sensitivity=(usual * np.exp(random.normal(0, 0.2, len(users)))).astype(np.float32),
        **habits(len(users), config.days, config.seed),
    )
    return people, liked


def _liked(user: dict[str, Any], code: dict[str, int]) -> list[int]:
    """The persona's categories, most liked first."""
    names = str(user["persona"]).split("_")
    if len(names) != len(AFFINITY) or not set(names) <= code.keys():
        raise SourceUnreadable(
            f"user {user['id']} has persona {user['persona']!r}; it should be three categories of {PRODUCTS} "
            f"joined by '_', such as {'_'.join(list(code)[:3])!r}"
        )
    return [code[name] for name in names]
