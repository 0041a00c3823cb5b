"""The map of a catalog: places, titles, pictures within their bounds, and what is missing."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cascade.data.contract import Dataset
from cascade.evaluation_page.catalog_map import BEHAVIOUR, CONTENT, catalog_map
from cascade.evaluation_page.thumbnails import SIDE, thumbnails
from cascade.features.item_table import ItemTable
from cascade.index import ExactIndex

ITEMS = 90


def table(content: np.ndarray | None = None, count: int = ITEMS) -> ItemTable:
    """Items without features, and pictures' vectors where some are given."""
    nothing = np.zeros((count, 64), np.float32)
    return ItemTable(
        [f"item-{n}" for n in range(count)],
        np.zeros((count, 4), np.int32),
        np.zeros((count, 1), np.float32),
        nothing if content is None else content,
        nothing,
    )


class Learned:
    """Retrieval whose index holds the catalog backwards."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.index = ExactIndex(vectors[::-1].copy())
        self.item_ids = [f"item-{n}" for n in range(len(vectors))][::-1]


def shop(root: Path, **columns: Any) -> Dataset:
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"item_id": [f"item-{n}" for n in range(ITEMS)], **columns}), root / "items.parquet")
    return Dataset(root)


@pytest.fixture
def groups() -> np.ndarray:
    """Two groups that differ in direction, float32 [90, 64]."""
    rng = np.random.default_rng(0)
    centres = np.eye(64, dtype=np.float32)[[0, 9]]
    return (centres[np.arange(ITEMS) % 2] + rng.normal(0, 0.05, (ITEMS, 64))).astype(np.float32)


def test_what_is_alike_lies_together_and_carries_its_title(tmp_path: Path, groups: np.ndarray) -> None:
    dataset = shop(
        tmp_path,
        title=[f"Title {n}" for n in range(ITEMS)],
        category_l1=["odd" if n % 2 else "even" for n in range(ITEMS)],
        category_l2=[""] * ITEMS,
    )
    found = catalog_map(dataset, table(groups), Learned(groups), seed=1)
    assert (found.by, found.items, len(found.points)) == (CONTENT, ITEMS, ITEMS)
    places = {name: np.array([(p.x, p.y) for p in found.points if p.category == name]) for name in ("odd", "even")}
    middle = {name: of.mean(axis=0) for name, of in places.items()}
    apart = np.linalg.norm(middle["odd"] - middle["even"])
    assert all(np.linalg.norm(of - middle[name], axis=1).mean() < apart / 2 for name, of in places.items())
    assert all(abs(one) <= 1 for point in found.points for one in (point.x, point.y))
    assert all(int(point.title.split()[1]) % 2 == (point.category == "odd") for point in found.points)
    assert found.missing == ("Pictures on the map: the items have none.",)
    assert catalog_map(dataset, table(groups), Learned(groups), seed=1) == found


def test_without_content_what_visitors_taught_is_drawn(tmp_path: Path, groups: np.ndarray) -> None:
    found = catalog_map(shop(tmp_path), table(), Learned(groups), seed=1)
    assert found.by == BEHAVIOUR
    assert {point.title for point in found.points} == {f"item-{n}" for n in range(ITEMS)}
    right = np.array([point.x for point in found.points if int(point.title[5:]) % 2])
    left = np.array([point.x for point in found.points if not int(point.title[5:]) % 2])
    up = np.array([point.y for point in found.points if int(point.title[5:]) % 2])
    down = np.array([point.y for point in found.points if not int(point.title[5:]) % 2])
    assert abs(right.mean() - left.mean()) + abs(up.mean() - down.mean()) > 0.5, "the index's order was not minded"
    assert len(found.missing) == 4


def test_without_any_vector_there_is_no_map(tmp_path: Path) -> None:
    found = catalog_map(shop(tmp_path), table(), Learned(np.zeros((ITEMS, 8), np.float32)), seed=1)
    assert found.points == ()
    assert found.missing == ("The map of the catalog: no item has a vector.",)


def test_a_large_catalog_is_sampled(tmp_path: Path, groups: np.ndarray) -> None:
    found = catalog_map(shop(tmp_path), table(groups), Learned(groups), seed=1, most=20)
    assert (found.items, len(found.points)) == (ITEMS, 20)
    assert len({point.title for point in found.points}) == 20


def test_pictures_are_small_and_bounded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths: list[Path | None] = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (300, 200, 3), np.uint8)).save(path)
        paths.append(path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    found = thumbnails([None, tmp_path / "broken.png", *paths])
    assert found[:2] == [None, None]
    for uri in found[2:]:
        assert uri is not None
        head, _, body = uri.partition(",")
        assert head == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(body))) as image:
            assert max(image.size) == SIDE
    size = len(str(found[2]))
    bounded = thumbnails(paths, budget=3 * size + size // 2)
    assert [uri is not None for uri in bounded] == [True, True, True, False, False, False]


def test_pictures_that_cannot_be_shown_are_told(tmp_path: Path, groups: np.ndarray) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "images" / "red.png")
    dataset = shop(tmp_path, image=["red.png"] * (ITEMS - 1) + ["../../etc/passwd"])
    found = catalog_map(dataset, table(groups), Learned(groups), seed=1)
    assert sum(point.picture is not None for point in found.points) == ITEMS - 1
    assert any(one.startswith("Pictures of all items on the map: 89 were read") for one in found.missing)
