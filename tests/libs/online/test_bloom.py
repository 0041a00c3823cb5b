from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascade.online.bloom import Bits, BloomShape, PositionTable

SHAPE = BloomShape()
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def flags_of(shape: BloomShape, item_ids: list[str]) -> NDArray[np.uint8]:
    """A filter that holds these items, a byte a bit."""
    flags = np.zeros(shape.bits, np.uint8)
    for item_id in item_ids:
        flags[shape.positions(item_id)] = 1
    return flags


def holds(flags: NDArray[np.uint8], bits: Bits) -> NDArray[np.bool_]:
    return flags[bits].all(axis=0)


def test_shape_follows_the_formulas() -> None:
    assert (SHAPE.bits, SHAPE.hashes) == (10528, 4)
    assert BloomShape(10, 0.5).bits % 8 == 0


@given(st.integers(1, 20_000), st.floats(1e-6, 0.5))
def test_a_full_filter_keeps_its_rate_with_whole_hashes(capacity: int, rate: float) -> None:
    shape = BloomShape(capacity, rate)
    filled = -np.expm1(-shape.hashes * capacity / shape.bits)
    assert filled**shape.hashes <= rate * (1 + 1e-9)


@pytest.mark.parametrize(("capacity", "rate"), [(0, 0.01), (10, 0.0), (10, 1.0)])
def test_impossible_shapes_are_refused(capacity: int, rate: float) -> None:
    with pytest.raises(ValueError, match="capacity"):
        BloomShape(capacity, rate)


def test_positions_are_the_same_in_every_process_and_release() -> None:
    assert SHAPE.positions("item-1") == [3813, 7181, 22, 3393]


@given(st.lists(ids, max_size=50), st.lists(ids, max_size=50))
def test_what_was_added_is_always_found(added: list[str], others: list[str]) -> None:
    table = PositionTable(SHAPE)
    flags = flags_of(SHAPE, added)
    assert holds(flags, table.lookup(added)).all()
    assert holds(flags, table.lookup(added + others))[: len(added)].all()


@pytest.mark.parametrize("load", [10, 100, 500, 1000])
def test_false_positives_stay_within_the_stated_rate(load: int) -> None:
    probes = [f"other-{i}" for i in range(20_000)]
    bits = PositionTable(SHAPE).lookup(probes)
    rates = [holds(flags_of(SHAPE, [f"user{user}-{i}" for i in range(load)]), bits).mean() for user in range(5)]
    # five filters of 20,000 probes: a rate of 1 % has a standard error near 0.05 %
    assert np.mean(rates) <= SHAPE.error_rate * 1.2


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 30), max_size=14), max_size=20), st.integers(1, 12))
def test_a_bounded_table_always_answers_what_hashing_would(requests: list[list[int]], capacity: int) -> None:
    table = PositionTable(SHAPE, capacity)
    for request in requests:
        item_ids = [f"item{i}" for i in request]
        expected = [SHAPE.positions(item_id) for item_id in item_ids]
        assert table.lookup(item_ids).T.tolist() == expected
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
