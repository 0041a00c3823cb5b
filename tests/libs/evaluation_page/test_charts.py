"""Where things stand: scales, ticks, bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.evaluation_page import charts
from cascade.evaluation_page.charts import Scale, Series, bar, decades, plot, scale_of, ticks


def test_a_scale_goes_from_0_to_1_and_not_beyond() -> None:
    scale = Scale(2, 10)
    assert [scale.at(value) for value in (2, 6, 10, 12, 0)] == [0, 0.5, 1, 1, 0]
    assert Scale(3, 3).at(3) == 0.5
    assert Scale(1, 10_000, log=True).at(100) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="from 0; begin above 0"):
        Scale(0, 1, log=True)


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_ticks_are_within_and_about_as_many_as_wanted(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 7
    slack = 1e-6 * (abs(low) + span)
    assert all(low - slack <= one <= low + span + slack for one in found)


def test_ticks_are_round() -> None:
    assert ticks(0, 0.97) == [0, 0.2, 0.4, 0.6, 0.8]
    assert ticks(5, 5) == [5]
    assert decades(1, 2465) == [1, 10, 100, 1000]
    assert decades(1, 7) == [1]


def test_a_bar_begins_at_zero_on_both_of_its_sides() -> None:
    scale = scale_of([0.5, -0.5], [(-1.0, 0.75), None])
    assert (scale.low, scale.high) == (-1.0, 0.75)
    up, down = bar("s1", "", 0.5, None, scale), bar("s1", "", -0.5, (-1.0, 0.75), scale)
    zero = 100 / 1.75
    assert (up.x, up.x + up.width) == pytest.approx((zero, 150 / 1.75), abs=0.02)
    assert (down.x, down.x + down.width) == pytest.approx((50 / 1.75, zero), abs=0.02)
    assert (up.low, down.low, down.high) == (None, 0, 100)
    assert scale_of([0.0], []).at(0.0) == 0


def test_a_plot_places_its_points_and_says_what_they_are() -> None:
    series = [Series("model", "s1", (1, 10, 100), (0.0, 0.5, 1.0)), Series("reference", "s2", (1, 100), (0, 1), False)]
    axis = ("k", Scale(1, 100, log=True), (1, 10, 100), lambda value: f"{value:g}")
    made = plot("t", "told", axis, ("r", Scale(0, 1), (0, 1), lambda value: f"{value:.1f}"), series)
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    top, bottom = charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert made.lines[0].path == f"M{left},{bottom}L{(left + right) / 2:g},{(top + bottom) / 2:g}L{right},{top}"
    assert [mark.title for mark in made.lines[0].marks] == ["model: 1, 0.0", "model: 10, 0.5", "model: 100, 1.0"]
    assert made.lines[1].marks == []
    assert [tick.at for tick in made.x_ticks] == [left, (left + right) / 2, right]
