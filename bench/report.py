"""What one area of the bench found: figures, tables, plots and sentences, written as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import Figure, Target, figures_table
from bench.machine import machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"


class Report:
    """Collects an area's results in the order in which they are told.

    folder: where the pages go; `latest.json` there is updated with this area's figures and keeps the others'
    quick: the area may take fewer repeats
    """

    def __init__(self, area: str, title: str, folder: Path = RESULTS, *, quick: bool = False) -> None:
        self.area = area
        self.title = title
        self.folder = folder
        self.quick = quick
        self.figures: list[Figure] = []
        self._lines: list[str] = []
        self._machine = machine()

    def figure(
        self,
        name: str,
        samples: float | Sequence[float],
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
    ) -> Figure:
        """Take note of a number: one value, or one a repeat. `name` is put below the area's."""
        values = (float(samples),) if isinstance(samples, int | float) else tuple(map(float, samples))
        target = None if at_most is None and at_least is None else Target(at_most, at_least)
        figure = Figure(f"{self.area}.{name}", values, unit, target, note)
        self.figures.append(figure)
        print(f"{figure.name}: {figure.value:.6g} {unit}", flush=True)
        return figure

    def say(self, *paragraphs: str) -> None:
        """Sentences, as Markdown."""
        for paragraph in paragraphs:
            self._lines += [paragraph, ""]

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers come formatted."""
        lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
        self._lines += [*lines, ""]

    @contextmanager
    def plot(self, name: str, x: str, y: str, title: str) -> Iterator[Axes]:
        """Axes to draw on; saved beside the page and shown in it."""
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        axes.set(xlabel=x, ylabel=y, title=title)
        axes.grid(alpha=0.3)
        yield axes
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        file = f"{self.area}-{name}.svg"
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / file, metadata={"Date": None})
        plt.close(figure)
        self._lines += [f"![{title}]({file})", ""]

    def write(self) -> Path:
        """The area's page, and its figures in `latest.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"# {self.title}", ""]
        lines += [*figures_table(self.figures), ""] if self.figures else []
        lines += self._lines
        lines += ["## Measured on", "", "| | |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in self._machine.items()]
        if self.quick:
            lines += ["", "A quick run: fewer repeats than `make bench` takes."]
        page = self.folder / f"{self.area}.md"
        page.write_text("\n".join(lines) + "\n")
        self._update(self.folder / "latest.json")
        return page

    def _update(self, latest: Path) -> None:
        known = json.loads(latest.read_text()) if latest.exists() else {}
        mine = f"{self.area}."
        figures = {name: one for name, one in known.get("figures", {}).items() if not name.startswith(mine)}
        figures |= {figure.name: figure.to_json() for figure in self.figures}
        areas = known.get("areas", {}) | {self.area: self._machine}
        content = {"areas": dict(sorted(areas.items())), "figures": dict(sorted(figures.items()))}
        latest.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
