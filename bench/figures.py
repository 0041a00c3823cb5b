"""What a measurement is: a name, the median of its repeats, their spread, and the target it is held to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound that a figure should keep. Exactly one of the two is given."""

    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is None or value >= self.at_least

    def __str__(self) -> str:
        return f"≤ {shown(self.at_most)}" if self.at_most is not None else f"≥ {shown(self.at_least or 0.0)}"


@dataclass(frozen=True)
class Figure:
    """One measured number.

    name: dotted, stable over releases: `request_path.c1.p50`
    samples: one value a repeat; the figure is their median, its spread the smallest and largest
    unit: of the samples
    note: what a reader must know to compare it
    """

    name: str
    samples: tuple[float, ...]
    unit: str
    target: Target | None = None
    note: str = ""

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest repeat."""
        return min(self.samples), max(self.samples)

    def to_json(self) -> dict[str, Any]:
        """As `latest.json` holds it."""
        target = None if self.target is None else {k: v for k, v in vars(self.target).items() if v is not None}
        return {
            "value": self.value,
            "unit": self.unit,
            "target": target,
            "met": None if self.target is None else self.target.met_by(self.value),
            "spread": list(self.spread),
            "repeats": len(self.samples),
            "note": self.note,
        }


def shown(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 0.001 else f"{value:.2g}"


def figures_table(figures: Sequence[Figure]) -> list[str]:
    """Markdown lines: a row a figure."""
    lines = ["| figure | median | spread | unit | target | |", "| --- | ---: | ---: | --- | ---: | --- |"]
    for figure in figures:
        low, high = figure.spread
        spread = f"{shown(low)} – {shown(high)} ({len(figure.samples)})" if len(figure.samples) > 1 else "one run"
        target = "" if figure.target is None else str(figure.target)
        verdict = "" if figure.target is None else ("met" if figure.target.met_by(figure.value) else "**missed**")
        verdict = ", ".join(part for part in (verdict, figure.note) if part)
        lines.append(f"| `{figure.name}` | {shown(figure.value)} | {spread} | {figure.unit} | {target} | {verdict} |")
    return lines
