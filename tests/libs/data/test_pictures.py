from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.data.contract import Dataset
from cascade.data.generator.pictures import SIZE, draw_picture
from cascade.data.generator.silhouettes import SILHOUETTES, silhouette
from cascade.data.generator.taxonomy import COLOURS, LOOKS, MATERIALS, TAXONOMY


def pixels(style: str, colour: str, material: str = "ceramic", look: str = "minimalist") -> np.ndarray:
    return np.asarray(draw_picture(style, COLOURS[colour], material, look), np.int32)


def test_every_style_has_a_silhouette_of_its_own() -> None:
    styles = {style for styles in TAXONOMY.values() for style in styles}
    assert styles == set(SILHOUETTES)
    drawn = {pixels(style, "red").tobytes() for style in styles}
    assert len(drawn) == len(styles)


@pytest.mark.parametrize("colour", COLOURS)
def test_the_colour_of_the_text_is_the_colour_of_the_picture(colour: str) -> None:
    near = np.abs(pixels("backpack", colour) - np.array(COLOURS[colour])).max(axis=2) < 12
    assert near.mean() > 0.15


def test_material_and_look_show() -> None:
    plain = pixels("sofa", "blue")
    others = {m: pixels("sofa", "blue", m) for m in MATERIALS if m != "ceramic"}
    assert all((other != plain).any() for other in others.values())
    corners = {tuple(pixels("sofa", "blue", look=look.name)[-1, 0]) for look in LOOKS}
    assert len(corners) == len(LOOKS)


def test_an_unknown_style_gets_a_shape_from_its_name() -> None:
    assert silhouette("zither") == silhouette("zither") != silhouette("harp")
    assert (pixels("zither", "red") != pixels("harp", "red")).any()


def test_items_have_pictures(tiny_root: Path) -> None:
    dataset = Dataset(tiny_root)
    paths = [dataset.image_path(name) for name in dataset.items().column("image").to_pylist()]
    assert len(set(paths)) == 120
    assert sum(path.stat().st_size for path in paths if path is not None) < 120 * 12_000
    assert paths[0] is not None
    with Image.open(paths[0]) as picture:
        assert picture.size == (SIZE, SIZE)
        assert picture.mode == "RGB"
