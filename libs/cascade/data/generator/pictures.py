"""Product pictures: the style gives the shape, the text's colour the colour, the material the pattern."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from cascade.data.files import Progress, write_bytes
from cascade.data.generator.catalog import Catalog
from cascade.data.generator.taxonomy import COLOURS

SIZE = 160


def write_pictures(catalog: Catalog, folder: Path, progress: Progress) -> None:
    names = catalog.table.column("image").to_pylist()
    colours = list(COLOURS.values())
    for n, name in enumerate(names):
        image = Image.new("RGB", (SIZE, SIZE), (246, 245, 242))
        draw = ImageDraw.Draw(image)
        draw.regular_polygon((80, 80, 55), 3 + int(catalog.style[n]) % 9, fill=colours[catalog.colour[n]])
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        write_bytes(buffer.getvalue(), folder / name)
        progress("pictures", n + 1, len(names))
