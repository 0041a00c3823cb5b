from __future__ import annotations

import numpy as np
import pytest

from cascade.models import affinity
from cascade.models.affinity import stand_ins


def pictures(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


IDS = np.array([3, 0, 7, 0, 5, 0], np.int32)
IMAGE = pictures((1, 0), (0.9, 0.1), (0, 1), (0, 5), (1, 1), (0, 0))
TEXT = pictures((1, 0), (1, 0), (0, 1), (0.1, 2), (-1, 0), (0, 0))


def test_a_new_item_stands_for_the_one_it_looks_like_and_one_without_content_for_none() -> None:
    assert stand_ins(IDS, IMAGE, TEXT).tolist() == [3, 3, 7, 7, 5, 0]
    assert IDS[1] == 0  # a copy


def test_picture_and_text_weigh_alike_whatever_their_lengths() -> None:
    ids, image = np.array([1, 2, 0], np.int32), pictures((1, 0), (0, 1), (100, 90))
    text = pictures((0, 1), (1, 0), (0.001, 0))
    assert stand_ins(ids, image, text).tolist() == [1, 2, 2]


@pytest.mark.parametrize("ids", [[1, 2, 3], [0, 0, 0]])
def test_without_new_items_or_known_ones_nothing_changes(ids: list[int]) -> None:
    assert stand_ins(np.array(ids, np.int32), IMAGE[:3], TEXT[:3]).tolist() == ids


def test_only_so_many_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "_MOST_STAND_INS", 1)
    assert stand_ins(IDS, IMAGE, TEXT).tolist() == [3, 3, 7, 0, 5, 0]
