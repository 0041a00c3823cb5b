"""Small pictures and texts, drawn here so that the right answer is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

COLOURS = {"red": (210, 30, 30), "blue": (30, 60, 210), "green": (30, 150, 60), "black": (20, 20, 20)}
FORMS = ("round", "square", "tall", "wide")
MATERIALS = ("cotton", "linen", "wool", "steel", "oak")


@dataclass(frozen=True)
class Items:
    """Pictures and the texts that describe them."""

    paths: list[Path]
    texts: list[str]


def draw(path: Path, colour: str, form: str, seed: int) -> Path:
    """A form of a colour, somewhere near the middle of a light picture."""
    rng = random.Random(seed)  # noqa: S311 - a drawing, not a secret
    image = Image.new("RGB", (48, 48), (245, 245, 245))
    x, y, r = 24 + rng.randint(-4, 4), 24 + rng.randint(-4, 4), rng.randint(11, 15)
    pen = ImageDraw.Draw(image)
    if form == "round":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[colour])
    else:
        half_x, half_y = {"square": (r, r), "tall": (r // 3, r), "wide": (r, r // 3)}[form]
        pen.rectangle((x - half_x, y - half_y, x + half_x, y + half_y), fill=COLOURS[colour])
    image.save(path)
    return path


@pytest.fixture(scope="session")
def make_items(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Items]:
    """n items of every colour and form in turn, with texts that differ by material and number."""
    folder = tmp_path_factory.mktemp("pictures")

    def make(count: int) -> Items:
        paths, texts = [], []
        for index in range(count):
            colour = list(COLOURS)[index % 4]
            form = FORMS[index // 4 % 4]
            material = MATERIALS[index % 5]
            paths.append(draw(folder / f"{count}-{index}.png", colour, form, index))
            texts.append(f"{colour} {form} thing of {material}, number {index}")
        return Items(paths, texts)

    return make


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The same number of threads everywhere: sums depend on it, and tiny models gain nothing from more."""
    torch.set_num_threads(1)
