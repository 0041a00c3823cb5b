"""A simulated day as a picture: the whole day, and the flash crowd beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascade.capacity.errors import CapacityError
from cascade.capacity.simulation import Day
from cascade.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44")
STYLES = ("-", "--", ":")
DAY_BIN = 5
"""minutes of a point of the whole day"""
BEFORE, AFTER = 0.1, 0.9
"""hours around the flash crowd's begin"""

Floats = NDArray[np.float64]
_Panel = tuple[str, Callable[[Day], Floats], Callable[..., Any], bool]


def draw(days: Sequence[Day], flash_hour: float, title: str, path: Path) -> None:
    """Write the picture, `.svg` or `.png` by its name. Raises CapacityError on another one, or where it cannot go."""
    if path.suffix not in FORMATS:
        raise CapacityError(f"the plot's file is {path.name!r}; end it in {' or '.join(FORMATS)}")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CapacityError("the plot needs matplotlib: pip install 'cascade-recommender[capacity]'") from error
    panels: list[_Panel] = [
        ("requests/s", lambda day: day.offered, np.max, False),
        ("p99, ms", lambda day: 1000 * day.p99, np.nanmax, True),
        ("dropped, %", lambda day: 100 * day.dropped, np.max, False),
        ("degraded, %", lambda day: 100 * day.degraded, np.max, False),
        ("pods ready", lambda day: day.all_replicas, np.mean, False),
        ("nodes", lambda day: day.nodes, np.mean, False),
        ("$ an hour", lambda day: day.hourly, np.mean, False),
    ]
    with mpl.rc_context(
        {"font.size": 8, "svg.hashsalt": "cascade", "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(9, 11), layout="constrained")
        grid = figure.subplots(len(panels), 2, sharex="col")
        for (left, right), panel in zip(grid, panels, strict=True):
            _panel(left, days, panel, DAY_BIN, (0, 24))
            _panel(right, days, panel, 1, (flash_hour - BEFORE, flash_hour + AFTER))
            left.set_ylabel(panel[0])
        grid[0][0].set_title("the day (p99, dropped, degraded: worst of 5 minutes)")
        grid[0][1].set_title("the flash crowd, minute by minute")
        grid[-1][0].set_xticks(range(0, 25, 3))
        tens = np.arange(np.ceil(6 * (flash_hour - BEFORE)), 6 * (flash_hour + AFTER)) / 6
        grid[-1][1].set_xticks(tens, labels=[f"{int(hour + 1e-6)}:{round(hour % 1 * 60) % 60:02d}" for hour in tens])
        grid[-1][0].set_xlabel("hour")
        figure.suptitle(title)
        handles, labels = grid[1][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        try:
            with replacing(path) as beside:
                figure.savefig(beside, format=path.suffix[1:], dpi=110, metadata=_metadata(path))
        except OSError as error:
            raise CapacityError(f"the plot cannot be written to {path}: {error.strerror}") from error


def _metadata(path: Path) -> dict[str, None]:
    return {"Date": None} if path.suffix == ".svg" else {}


def _panel(axes: Axes, days: Sequence[Day], panel: _Panel, width: int, shown: tuple[float, float]) -> None:
    _, pick, together, logarithmic = panel
    for day, colour, style in zip(days, COLOURS, STYLES, strict=False):
        hours, values = _binned(pick(day), width, together)
        inside = (hours >= shown[0]) & (hours <= shown[1])
        axes.plot(hours[inside], values[inside], style, color=colour, linewidth=1.1, label=day.scaling)
    if logarithmic:
        axes.axhline(1000 * days[0].budget, color="black", linewidth=0.7, label=f"{1000 * days[0].budget:g} ms")
        axes.set_yscale("log")
        axes.set_yticks([10, 20, 50, 100, 200, 500, 1000], labels=["10", "20", "50", "100", "200", "500", "1000"])
        axes.minorticks_off()
        axes.set_ylim(10, 1000)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(*shown)
    axes.grid(alpha=0.3)


def _binned(values: Floats, width: int, together: Callable[..., Any]) -> tuple[Floats, Floats]:
    """Hours, and the values of each so many minutes."""
    whole = len(values) // width * width
    hours = (np.arange(whole // width) + 0.5) * width / 60
    return hours, together(values[:whole].reshape(-1, width), axis=1)
