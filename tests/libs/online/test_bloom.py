from __future__ import annotations

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.online.bloom import BloomShape, PositionTable, contains

SHAPE = BloomShape()
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def bitmap_of(shape: BloomShape, item_ids: list[str]) -> bytes:
    """As SETBIT would leave it: cut after the last byte that was touched."""
    flags = np.zeros(shape.bits, np.uint8)
    last = -1
    for item_id in item_ids:
        flags[shape.positions(item_id)] = 1
        last = max(last, *shape.positions(item_id))
    return np.packbits(flags)[: last // 8 + 1].tobytes()


def test_shape_follows_the_formulas() -> None:
    assert (SHAPE.bits, SHAPE.hashes) == (9592, 7)
    assert BloomShape(10, 0.5).bits % 8 == 0


@pytest.mark.parametrize(("capacity", "rate"), [(0, 0.01), (10, 0.0), (10, 1.0)])
def test_impossible_shapes_are_refused(capacity: int, rate: float) -> None:
    with pytest.raises(ValueError, match="capacity"):
        BloomShape(capacity, rate)


def test_positions_are_the_same_in_every_process_and_release() -> None:
    assert SHAPE.positions("item-1") == [1421, 3245, 5070, 6897, 8727, 969, 2808]


@given(st.lists(ids, max_size=50), st.lists(ids, max_size=50))
def test_what_was_added_is_always_found(added: list[str], others: list[str]) -> None:
    table = PositionTable(SHAPE)
    bitmap = bitmap_of(SHAPE, added)
    assert contains(bitmap, table.lookup(added)).all()
    assert contains(bitmap, table.lookup(added + others))[: len(added)].all()


@pytest.mark.parametrize("load", [10, 100, 500, 1000])
def test_false_positives_stay_within_the_stated_rate(load: int) -> None:
    probes = [f"other-{i}" for i in range(20_000)]
    bits = PositionTable(SHAPE).lookup(probes)
    rates = [contains(bitmap_of(SHAPE, [f"user{user}-{i}" for i in range(load)]), bits).mean() for user in range(5)]
    # five filters of 20,000 probes: a rate of 1 % has a standard error near 0.05 %
    assert np.mean(rates) <= SHAPE.error_rate * 1.2


def test_no_bitmap_holds_nothing() -> None:
    bits = PositionTable(SHAPE).lookup(["a", "b"])
    assert contains(None, bits).tolist() == [False, False]
    assert contains(b"", bits).tolist() == [False, False]
    assert contains(b"\xff", PositionTable(SHAPE).lookup([])).shape == (0,)


def test_bit_order_is_that_of_setbit(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for bit in SHAPE.positions("seen"):
            client.setbit("bits", bit, 1)
        assert client.get("bits") == bitmap_of(SHAPE, ["seen"])


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 30), max_size=14), max_size=20), st.integers(1, 12))
def test_a_bounded_table_always_answers_what_hashing_would(requests: list[list[int]], capacity: int) -> None:
    table = PositionTable(SHAPE, capacity)
    for request in requests:
        item_ids = [f"item{i}" for i in request]
        expected = [SHAPE.positions(item_id) for item_id in item_ids]
        assert table.lookup(item_ids).tolist() == expected
        assert len(table) <= capacity


def test_what_was_used_longest_ago_goes_first() -> None:
    table = PositionTable(SHAPE, 3)
    for item_ids in (["a"], ["b"], ["c"], ["a"], ["d"]):
        table.lookup(item_ids)
    assert "b" not in table
    assert all(item in table for item in "acd")


def test_a_table_needs_room() -> None:
    with pytest.raises(ValueError, match="capacity 0"):
        PositionTable(SHAPE, 0)
