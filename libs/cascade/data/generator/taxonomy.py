"""The words the built-in shop is made of: categories, styles, colours, materials, looks, audiences."""

from __future__ import annotations

from dataclasses import dataclass

# category → styles; a style's median price stands beside it
TAXONOMY: dict[str, dict[str, float]] = {
    "bags": {"backpack": 79, "tote": 49, "clutch": 39, "suitcase": 149},
    "footwear": {"sneaker": 89, "boot": 129, "sandal": 45, "loafer": 99},
    "kitchen": {"saucepan": 59, "chef knife": 69, "kettle": 45, "chopping board": 29},
    "electronics": {"headphones": 119, "speaker": 139, "camera": 449, "laptop": 999},
    "clothing": {"jacket": 119, "shirt": 45, "dress": 79, "trousers": 65},
    "furniture": {"chair": 129, "table": 279, "sofa": 799, "shelf": 149},
    "jewelry": {"necklace": 89, "ring": 149, "earrings": 59, "bracelet": 69},
    "flowers": {"bouquet": 39, "potted plant": 29, "wreath": 45, "cactus": 15},
    "groceries": {"coffee": 12, "chocolate": 6, "tea": 9, "honey": 8},
    "outdoors": {"tent": 219, "sleeping bag": 99, "water bottle": 25, "kayak": 649},
    "sport": {"ball": 25, "dumbbell": 35, "racket": 99, "yoga mat": 39},
    "beauty": {"perfume": 69, "lipstick": 19, "soap": 8, "hairbrush": 17},
    "lighting": {"table lamp": 59, "pendant lamp": 89, "floor lamp": 129, "lantern": 35},
    "tools": {"hammer": 25, "screwdriver": 15, "saw": 35, "drill": 99},
    "music": {"guitar": 299, "drum": 199, "piano": 899, "flute": 149},
    "accessories": {"scarf": 35, "hat": 29, "belt": 39, "wristwatch": 199},
    "tableware": {"mug": 14, "plate": 18, "bowl": 22, "carafe": 29},
    "textiles": {"cushion": 29, "rug": 149, "blanket": 59, "curtain": 49},
    "toys": {"teddy bear": 25, "kite": 19, "building blocks": 35, "toy train": 45},
    "books": {"notebook": 14, "cookbook": 29, "travel guide": 22, "novel": 16},
}

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (38, 38, 42),
    "white": (244, 243, 238),
    "grey": (136, 140, 146),
    "navy": (31, 49, 92),
    "blue": (58, 122, 204),
    "teal": (22, 132, 130),
    "green": (66, 150, 82),
    "olive": (116, 120, 58),
    "yellow": (238, 196, 60),
    "orange": (232, 128, 48),
    "red": (200, 52, 54),
    "pink": (236, 142, 172),
    "purple": (124, 82, 168),
    "brown": (124, 82, 54),
    "beige": (214, 190, 156),
}

MATERIALS: tuple[str, ...] = (
    "leather", "canvas", "cotton", "wool", "linen", "oak", "bamboo", "steel", "brass", "glass", "ceramic", "cork",
)  # fmt: skip

# category → materials its products are made of, or come in
CATEGORY_MATERIALS: dict[str, tuple[str, ...]] = {
    "bags": ("leather", "canvas", "cotton", "wool", "cork"),
    "footwear": ("leather", "canvas", "wool", "cork"),
    "kitchen": ("steel", "oak", "bamboo", "ceramic", "glass"),
    "electronics": ("steel", "leather", "bamboo", "brass"),
    "clothing": ("cotton", "wool", "linen", "leather"),
    "furniture": ("oak", "bamboo", "steel", "leather", "linen"),
    "jewelry": ("brass", "steel", "glass", "leather", "ceramic"),
    "flowers": ("ceramic", "glass", "linen", "bamboo"),
    "groceries": ("glass", "steel", "cotton", "ceramic"),
    "outdoors": ("canvas", "cotton", "steel", "wool"),
    "sport": ("leather", "steel", "cork", "cotton", "bamboo"),
    "beauty": ("glass", "steel", "ceramic", "bamboo"),
    "lighting": ("brass", "steel", "glass", "oak", "linen"),
    "tools": ("steel", "oak", "brass"),
    "music": ("oak", "brass", "bamboo", "steel"),
    "accessories": ("leather", "wool", "cotton", "linen", "steel"),
    "tableware": ("ceramic", "glass", "bamboo", "steel", "oak"),
    "textiles": ("cotton", "wool", "linen", "bamboo"),
    "toys": ("oak", "cotton", "bamboo", "wool", "steel"),
    "books": ("linen", "leather", "cotton", "cork"),
}


@dataclass(frozen=True)
class Look:
    """An aesthetic: how titles say it, how descriptions tell it."""

    name: str
    sentence: str


LOOKS: tuple[Look, ...] = (
    Look("minimalist", "Clean lines and nothing that is not needed."),
    Look("vintage", "It looks back to the fifties, worn edges included."),
    Look("rustic", "Rough, warm and honest, as if made in a barn."),
    Look("sporty", "Light, quick and ready to be used hard."),
    Look("elegant", "Polished for evenings when it matters."),
    Look("playful", "Cheerful shapes that make people smile."),
)


@dataclass(frozen=True)
class AgeGroup:
    """Whom an item is made for: the age its appeal is greatest at, and how the text says so."""

    centre: float
    noun: str


AGE_GROUPS: tuple[AgeGroup, ...] = (
    AgeGroup(21, "students"),
    AgeGroup(32, "young professionals"),
    AgeGroup(44, "busy families"),
    AgeGroup(62, "seasoned connoisseurs"),
)

ANY, FEMALE, MALE = 0, 1, 2
GENDER_CODES = {"F": FEMALE, "M": MALE}
GENDER_NAMES: tuple[str | None, ...] = (None, "F", "M")
GENDERED_CATEGORIES = ("bags", "footwear", "clothing", "jewelry", "beauty", "accessories", "sport")


def taxonomy_for(items: int) -> dict[str, dict[str, float]]:
    """The categories and styles of a shop of this size: all 20 × 4 from 640 items on, fewer below, so that a
    style holds several items."""
    styles = max(8, min(80, items // 8))
    categories = max(4, min(20, styles // 2))
    per_category = max(2, min(4, round(styles / categories)))
    return {c: dict(list(s.items())[:per_category]) for c, s in list(TAXONOMY.items())[:categories]}
