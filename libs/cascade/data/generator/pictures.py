"""Product pictures: the style gives the shape, the text's colour the colour, the material the pattern, and the
look the backdrop."""

from __future__ import annotations

import io
import random
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

from cascade.data.files import Progress, write_bytes
from cascade.data.generator.catalog import Catalog
from cascade.data.generator.silhouettes import silhouette
from cascade.data.generator.taxonomy import COLOURS, LOOKS, MATERIALS

Colour = tuple[int, int, int]

SIZE = 160
"""Pixels a side; drawn at twice that, so that edges are smooth."""
_DRAWN = 2 * SIZE
_QUALITY = 82
_DARK: Colour = (52, 48, 46)
_WHITE: Colour = (250, 249, 246)
_LEAF: Colour = (82, 140, 84)
_BACKDROPS: dict[str, Colour] = {
    "minimalist": (216, 220, 222),
    "vintage": (240, 229, 207),
    "rustic": (226, 214, 200),
    "sporty": (218, 234, 242),
    "elegant": (228, 224, 236),
    "playful": (253, 233, 214),
}
# material → pattern of the coloured surface: kind, spacing in drawn pixels, strength
_PATTERNS: dict[str, tuple[str, int, int]] = {
    "leather": ("speckle", 9, 16),
    "canvas": ("weave", 10, 22),
    "cotton": ("dots", 14, 16),
    "wool": ("zigzag", 14, 28),
    "linen": ("weave", 6, 16),
    "oak": ("grain", 16, 30),
    "bamboo": ("stripes", 22, 26),
    "steel": ("sheen", 48, 34),
    "brass": ("sheen", 30, 26),
    "glass": ("sheen", 80, 54),
    "ceramic": ("plain", 0, 0),
    "cork": ("speckle", 5, 34),
}


def write_pictures(catalog: Catalog, folder: Path, progress: Progress) -> None:
    """A JPEG for each item that has an image in the catalog."""
    names = catalog.table.column("image").to_pylist()
    colours, looks = list(COLOURS.values()), [look.name for look in LOOKS]
    for n, name in enumerate(names):
        if name is not None:
            picture = draw_picture(
                catalog.style_names[catalog.style[n]],
                colours[catalog.colour[n]],
                MATERIALS[catalog.material[n]],
                looks[catalog.look[n]],
            )
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=_QUALITY)
            write_bytes(buffer.getvalue(), folder / name)
        progress("pictures", n + 1, len(names))


def draw_picture(style: str, colour: Colour, material: str, look: str) -> Image.Image:
    """RGB, SIZE × SIZE."""
    picture = _backdrop(look).copy()
    draw = ImageDraw.Draw(picture)
    draw.ellipse(_scaled((0.16, 0.86, 0.84, 0.97)), fill=_mixed(_BACKDROPS[look], _DARK, 0.14))
    tones = {
        "m": colour,
        "s": _mixed(colour, (0, 0, 0), 0.24),
        "l": _mixed(colour, (255, 255, 255), 0.45),
        "d": _DARK,
        "w": _WHITE,
        "g": _LEAF,
    }
    for kind, tone, numbers in silhouette(style):
        _draw(draw, kind, numbers, tones[tone])
    pattern = _pattern(material)
    if pattern is not None:
        ink = (255, 255, 255) if sum(colour) < 360 or _PATTERNS[material][0] == "sheen" else (0, 0, 0)
        picture.paste(ink, mask=ImageChops.multiply(pattern, _surface(style)))
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


@lru_cache(maxsize=256)
def _surface(style: str) -> Image.Image:
    """Where the product's own colour (or its shade) lies on top: the pattern goes there."""
    mask = Image.new("L", (_DRAWN, _DRAWN), 0)
    draw = ImageDraw.Draw(mask)
    for kind, tone, numbers in silhouette(style):
        _draw(draw, kind, numbers, 255 if tone in "ms" else 0)
    return mask


@lru_cache(maxsize=len(LOOKS))
def _backdrop(look: str) -> Image.Image:
    """The look's colour, a little lighter towards the top."""
    base = _BACKDROPS[look]
    column = Image.new("RGB", (1, _DRAWN))
    for y in range(_DRAWN):
        column.putpixel((0, y), _mixed(base, (255, 255, 255), 0.35 * (1 - y / _DRAWN)))
    return column.resize((_DRAWN, _DRAWN))


@lru_cache(maxsize=len(MATERIALS))
def _pattern(material: str) -> Image.Image | None:
    """How strongly the pattern shows, as an L image; None for a plain surface."""
    kind, step, strength = _PATTERNS[material]
    if kind == "plain":
        return None
    image = Image.new("L", (_DRAWN, _DRAWN), 0)
    draw = ImageDraw.Draw(image)
    strength *= 2
    if kind in ("weave", "stripes"):
        for x in range(0, _DRAWN, step):
            draw.line((x, 0, x, _DRAWN), fill=strength, width=2)
            if kind == "weave":
                draw.line((0, x, _DRAWN, x), fill=strength, width=2)
    elif kind == "dots":
        for x in range(0, _DRAWN, step):
            for y in range(0, _DRAWN, step):
                draw.ellipse((x, y, x + 4, y + 4), fill=strength)
    elif kind == "zigzag":
        for y in range(0, _DRAWN, step):
            points = [(x, y + (step // 2 if x // step % 2 else 0)) for x in range(0, _DRAWN + step, step)]
            draw.line(points, fill=strength, width=3)
    elif kind == "sheen":
        for x in range(-_DRAWN, _DRAWN, 2 * step + 30):
            draw.line((x, _DRAWN, x + _DRAWN, 0), fill=strength, width=step)
    else:  # speckle and grain are irregular, and the same every time
        dice = random.Random(material)  # noqa: S311 - a picture, not a secret
        for _ in range(_DRAWN * _DRAWN // (step * step * 6)):
            x, y = dice.randrange(_DRAWN), dice.randrange(_DRAWN)
            length = dice.randint(30, 120) if kind == "grain" else 3
            draw.line((x, y, x, y + length), fill=strength, width=2 if kind == "grain" else 3)
    return image


def _draw(draw: ImageDraw.ImageDraw, kind: str, numbers: tuple[float, ...], fill: Colour | int) -> None:
    if kind == "box":
        draw.rectangle(_scaled(numbers), fill=fill)
    elif kind == "oval":
        draw.ellipse(_scaled(numbers), fill=fill)
    elif kind == "poly":
        draw.polygon(_scaled(numbers), fill=fill)
    elif kind == "round":
        draw.rounded_rectangle(_scaled(numbers[:4]), numbers[4] * _DRAWN, fill=fill)
    elif kind == "ring":
        draw.ellipse(_scaled(numbers[:4]), outline=fill, width=round(numbers[4] * _DRAWN))
    elif kind == "arc":
        draw.arc(_scaled(numbers[:4]), numbers[4], numbers[5], fill=fill, width=round(numbers[6] * _DRAWN))
    elif kind == "line":
        draw.line(_scaled(numbers[:-1]), fill=fill, width=max(2, round(numbers[-1] * _DRAWN)), joint="curve")
    else:
        raise ValueError(f"stroke {kind!r} is not known; silhouettes.py lists the kinds")


def _scaled(numbers: tuple[float, ...]) -> list[float]:
    return [number * _DRAWN for number in numbers]


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
