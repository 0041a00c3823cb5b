"""Pictures in Dagster's metadata: small PNGs inside Markdown."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import dagster as dg
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cascade.drift.psi import DRIFTED, WATCH
from cascade.drift.report import Drift

Markdown = dg.MarkdownMetadataValue

matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})


def markdown(figure: Figure, alt: str) -> Markdown:
    """The figure as a picture that the UI shows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{encoded})")


def bars(values: Sequence[str], title: str, top: int = 25) -> Markdown:
    """How often each value occurs, most frequent first."""
    counts = Counter(values).most_common(top)
    figure = Figure(figsize=(5, 0.2 * len(counts) + 0.6))
    axes = figure.subplots()
    axes.barh([name for name, _ in reversed(counts)], [count for _, count in reversed(counts)], color="#3b6ea8")
    axes.set_title(title)
    return markdown(figure, title)


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, xlabel: str) -> Markdown:
    """Lines, each given as its x and y values, such as a loss over steps."""
    figure = Figure(figsize=(5, 2.6))
    axes = figure.subplots()
    for name, (x, y) in series.items():
        if len(x):
            axes.plot(x, y, label=name, linewidth=1.2, marker="o" if len(x) < 12 else None, markersize=3)
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.legend(frameon=False)
    return markdown(figure, title)


def intervals(
    names: Sequence[str], values: Sequence[float], spans: Sequence[tuple[float, float] | None], title: str
) -> Markdown:
    """A bar for each name, with a line over where its interval lies."""
    figure = Figure(figsize=(5, 0.22 * len(names) + 0.8))
    axes = figure.subplots()
    places = list(range(len(names)))[::-1]
    axes.barh(places, values, color="#3b6ea8")
    for place, span in zip(places, spans, strict=True):
        if span is not None:
            axes.plot(span, (place, place), color="black", linewidth=1.0)
    axes.set_yticks(places, names)
    axes.set_title(title)
    return markdown(figure, title)


def embedding_map(points: NDArray[np.float32], labels: Sequence[str], title: str) -> Markdown:
    """Points [N, 2] coloured by label."""
    names = sorted(set(labels))
    colours = matplotlib.colormaps["tab20"]
    numbers = np.array([names.index(label) for label in labels])
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for number, name in enumerate(names):
        chosen = numbers == number
        axes.scatter(points[chosen, 0], points[chosen, 1], s=4, color=colours(number % 20), label=name)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize=6, markerscale=2, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return markdown(figure, title)


def gates(names: Sequence[str], worse_by: Sequence[float], tolerances: Sequence[float], title: str) -> Markdown:
    """How much of its tolerance each gate used: below 0 better than before, above 1 refused."""
    used = [
        change / tolerance if tolerance > 0 else 2.0 * (change > 0)
        for change, tolerance in zip(worse_by, tolerances, strict=True)
    ]
    figure = Figure(figsize=(5, 0.22 * len(names) + 0.8))
    axes = figure.subplots()
    colours = ["#b23b3b" if share > 1 else "#3b6ea8" for share in reversed(used)]
    axes.barh(list(reversed(names)), [min(max(share, -3.0), 3.0) for share in reversed(used)], color=colours)
    axes.axvline(1.0, color="#b23b3b", linewidth=1.0)
    axes.axvline(0.0, color="black", linewidth=0.6)
    axes.set_xlabel("worse, as a share of the tolerance (cut at 3)")
    axes.set_title(title)
    return markdown(figure, title)


def stability(drifts: Sequence[Drift]) -> Markdown:
    """A bar for each feature's stability index, with both thresholds; pale where visitors were too few to judge."""
    figure = Figure(figsize=(5, 0.2 * len(drifts) + 0.8))
    axes = figure.subplots()
    colours = {"drifted": "#b23b3b", "watch": "#c98f2b", "stable": "#3b6ea8", "too few": "#c8ccd2"}
    ordered = list(reversed(drifts))
    axes.barh(range(len(ordered)), [one.psi or 0.0 for one in ordered], color=[colours[one.state] for one in ordered])
    axes.set_yticks(range(len(ordered)), [f"{one.model} {one.feature}" for one in ordered])
    for threshold in (WATCH, DRIFTED):
        axes.axvline(threshold, color="#b23b3b", linewidth=0.8, linestyle="--")
    title = "population stability index (pale: too few visitors)"
    axes.set_title(title)
    return markdown(figure, title)


def histograms(drifts: Sequence[Drift]) -> Markdown:
    """Shares of the bins, in training and served, a plot a feature."""
    figure = Figure(figsize=(5, 1.9 * len(drifts)), layout="constrained")
    for axes, one in zip(np.atleast_1d(figure.subplots(len(drifts))), drifts, strict=True):
        places = np.arange(len(one.bins))
        axes.bar(places - 0.2, one.expected, width=0.4, color="#9aa5b1", label="training")
        axes.bar(places + 0.2, one.actual, width=0.4, color="#3b6ea8", label="served")
        axes.set_xticks(places, one.bins, rotation=30, ha="right", fontsize=6)
        axes.set_title(f"{one.model} {one.feature}: PSI {one.psi or 0.0:.2f}")
        axes.legend(frameon=False, fontsize=6)
    return markdown(figure, "training and served")
