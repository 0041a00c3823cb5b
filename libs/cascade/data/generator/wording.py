"""Titles and descriptions, composed so that they carry style, colour, material, look and audience."""

from __future__ import annotations

from cascade.data.generator.taxonomy import FEMALE, MALE, AgeGroup, Look

_AUDIENCE = {FEMALE: "women", MALE: "men"}
_NAMES = (
    "Alba", "Birk", "Cove", "Dune", "Elm", "Fjord", "Gale", "Haze", "Iris", "Juno", "Kite", "Lark", "Mira", "Nord",
    "Opal", "Pine", "Quill", "Reed", "Sage", "Tide", "Umber", "Vale", "Wren", "Yarrow", "Zephyr",
)  # fmt: skip
_USES = (
    "for everyday use",
    "for weekends away",
    "as a gift that is remembered",
    "for small homes",
    "for people who keep things long",
    "for busy mornings",
)
_CARE = (
    "Made in small batches.",
    "Easy to clean, hard to break.",
    "Comes with a two-year guarantee.",
    "Packed without plastic.",
    "Repairable, with spare parts on request.",
)
_OPENINGS = (
    "{article} {look} {style} in {colour} {material}",
    "This {style} in {colour} is made with {material}, {look} through and through",
    "{colour_title} {material} meets {article_inside} {look} {style}",
    "Our {look} {style}: {material}, in {colour}",
)


def entitle(style: str, colour: str, material: str, look: Look, age_group: AgeGroup, gender: int, variant: int) -> str:
    """'Alba minimalist backpack in navy canvas for women'; `variant` chooses among wordings."""
    name = _NAMES[variant % len(_NAMES)]
    audience = f" for {_AUDIENCE[gender]}" if gender in _AUDIENCE else ""
    if variant // 25 % 2:
        return f"{name} {colour} {material} {style}, {look.name}{audience}"
    return f"{name} {look.name} {style} in {colour} {material}{audience}"


def describe(style: str, colour: str, material: str, look: Look, age_group: AgeGroup, gender: int, variant: int) -> str:
    """Three sentences: what it is, how it looks, whom it is for."""
    article = "An" if look.name[0] in "aeiou" else "A"
    opening = _OPENINGS[variant // 50 % len(_OPENINGS)].format(
        article=article,
        article_inside=article.lower(),
        look=look.name,
        style=style,
        colour=colour,
        colour_title=colour.capitalize(),
        material=material,
    )
    use = _USES[variant // 200 % len(_USES)]
    care = _CARE[variant // 1200 % len(_CARE)]
    audience = f"{_AUDIENCE[gender]}, above all {age_group.noun}" if gender in _AUDIENCE else age_group.noun
    return f"{opening}, {use}. {look.sentence} Loved by {audience}. {care}"
