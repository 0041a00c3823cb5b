from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.id_map import IdMap

texts = st.text(max_size=6)


@given(st.lists(texts, unique=True, max_size=200), st.lists(texts, max_size=50))
def test_hashed_positions_are_a_dicts(ids: list[str], others: list[str]) -> None:
    asked = [*others, *ids[::-1], *ids[:5]]
    plain = {item: at for at, item in enumerate(ids)}
    found = IdMap(ids, worth_hashing=0).positions(asked)
    assert found.dtype == np.int32
    assert found.tolist() == [plain.get(item, -1) for item in asked]
    assert IdMap(ids).positions(asked).tolist() == found.tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 1024, 50_000])
def test_every_id_of_a_large_map_is_found_and_no_other(count: int) -> None:
    ids = [f"item-{number}" for number in range(count)]
    ids_map = IdMap(ids, worth_hashing=0)
    assert ids_map.positions(ids).tolist() == list(range(count))
    assert set(ids_map.positions([f"{item} " for item in ids]).tolist()) == {-1}


class Alike(str):
    """A text whose hash says nothing."""

    def __hash__(self) -> int:
        return 7


def test_ids_that_share_a_hash_are_told_apart() -> None:
    ids = [Alike("a"), Alike("b"), Alike("c")]
    assert IdMap(ids, worth_hashing=0).positions([Alike("c"), Alike("a"), Alike("d")]).tolist() == [2, 0, -1]
