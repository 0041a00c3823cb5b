"""Where things stand in a plot: scales, ticks, paths. Numbers in, coordinates out; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 26, 12, 46
"""Of the view box; wide enough for ticks of 13 units, which stay legible at a phone's width."""


@dataclass(frozen=True)
class Scale:
    """From numbers between low and high to shares of a length. Raises ValueError where a logarithm has no such end."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale from {self.low}; begin above 0")

    def at(self, value: float) -> float:
        """0 at low, 1 at high; 0.5 where they are the same. Beyond the ends: at the end."""
        low, high, value = (math.log(one) if self.log else one for one in (self.low, self.high, self._within(value)))
        return (value - low) / (high - low) if high > low else 0.5

    def _within(self, value: float) -> float:
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Tick:
    """at: a coordinate of the view box."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A point of a line. title: what it says when pointed at."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Line:
    """One series. css: how it is drawn; path: an SVG path; marks: its points, where they are shown."""

    name: str
    css: str
    path: str
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Plot:
    """Lines over two axes. told: what it shows, for those who do not see it."""

    title: str
    told: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]


@dataclass(frozen=True)
class Series:
    """What to draw as a line. marked: whether its points are shown."""

    name: str
    css: str
    x: Sequence[float]
    y: Sequence[float]
    marked: bool = True


def plot(
    title: str,
    told: str,
    x: tuple[str, Scale, Iterable[float], Callable[[float], str]],
    y: tuple[str, Scale, Iterable[float], Callable[[float], str]],
    series: Iterable[Series],
) -> Plot:
    """Place the series. x, y: label, scale, ticks, and how a number is written."""
    (x_label, x_scale, x_values, x_text), (y_label, y_scale, y_values, y_text) = x, y

    def px(value: float) -> float:
        return round(LEFT + x_scale.at(value) * (WIDTH - LEFT - RIGHT), 1)

    def py(value: float) -> float:
        return round(TOP + (1 - y_scale.at(value)) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for one in series:
        points = [(px(at), py(value)) for at, value in zip(one.x, one.y, strict=True)]
        marks = [
            Mark(*point, f"{one.name}: {x_text(at)}, {y_text(value)}")
            for point, at, value in zip(points, one.x, one.y, strict=True)
            if one.marked
        ]
        path = "".join(f"{'L' if at else 'M'}{left:g},{top:g}" for at, (left, top) in enumerate(points))
        lines.append(Line(one.name, one.css, path, marks))
    return Plot(
        title,
        told,
        x_label,
        y_label,
        [Tick(px(value), x_text(value)) for value in x_values],
        [Tick(py(value), y_text(value)) for value in y_values],
        lines,
    )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between low and high, about as many as wanted."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= span / wanted * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten between low and high."""
    return [10.0**n for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]


@dataclass(frozen=True)
class Bar:
    """A horizontal bar and the interval of its value, in percent of the track. css: how it is drawn.

    x, width: of the bar; low, high: of the interval, None where there is none
    """

    css: str
    x: float
    width: float
    low: float | None
    high: float | None
    title: str


def bar(css: str, title: str, value: float, span: Sequence[float] | None, scale: Scale) -> Bar:
    """From 0, or from the scale's end next to it, to the value."""
    zero, end = 100 * scale.at(0.0), 100 * scale.at(value)
    low, high = (None, None) if span is None else (100 * scale.at(span[0]), 100 * scale.at(span[1]))
    return Bar(
        css,
        round(min(zero, end), 2),
        round(abs(end - zero), 2),
        None if low is None else round(low, 2),
        None if high is None else round(high, 2),
        title,
    )


def scale_of(values: Iterable[float], spans: Iterable[Sequence[float] | None]) -> Scale:
    """A scale that holds 0, all values and all intervals."""
    ends = [0.0, *values, *(end for span in spans if span is not None for end in span)]
    return Scale(min(ends), max(ends) if max(ends) > min(ends) else min(ends) + 1)
