"""Days are split by time, without overlap, and every day has one use."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.data.split import TooFewDays, split_days


def days(count: int) -> list[date]:
    return [date(2026, 1, 5) + timedelta(days=number) for number in range(count)]


@pytest.mark.parametrize(("count", "sizes"), [(14, (9, 3, 2)), (10, (6, 1, 3)), (6, (4, 1, 1)), (2, (1, 1, 0))])
def test_known_sizes(count: int, sizes: tuple[int, int, int]) -> None:
    split = split_days(days(count))

    assert (len(split.train), len(split.evaluate), len(split.fine_tune)) == sizes


@given(st.integers(2, 400), st.floats(0.01, 0.99), st.none() | st.integers(0, 50))
def test_every_day_has_one_use_in_order(count: int, share: float, kept: int | None) -> None:
    split = split_days(days(count)[::-1], share, kept)

    assert [*split.train, *split.evaluate, *split.fine_tune] == days(count)
    assert split.train
    assert split.evaluate


def test_one_day_is_too_few() -> None:
    with pytest.raises(TooFewDays, match="1 days"):
        split_days(days(1))
