"""From the report as JSON to what the page shows. Nothing here draws, and nothing is measured anew.

`content` is what `cascade evaluate --json` prints. A part that it does not hold is left out, and `missing_of` names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.evaluation_page import charts
from cascade.evaluation_page.charts import Bar, Plot, Scale, Series
from cascade.training.report import LIST_METRICS, METRICS

Content = Mapping[str, Any]

TWO_TOWER, CASCADE, ORACLE = "two-tower", "two-tower + DLRM", "oracle"
ALL = "all"
BARS = ("recall@10", "ndcg@10")
"""Metrics that are drawn as bars; the tables have all."""
HEADLINES = (
    (CASCADE, "ndcg@10", "ndcg@10 of the cascade"),
    (CASCADE, "recall@10", "recall@10 of the cascade"),
    (TWO_TOWER, "recall@300", "recall@300 of retrieval"),
    (CASCADE, "calibration_error", "calibration error of the ranker"),
)
_SERIES = 9


@dataclass(frozen=True)
class Cell:
    """A number as it is shown, and its interval; both empty where there is none."""

    value: str = ""
    span: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table. css: of the model's mark."""

    name: str
    css: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """Rows under columns; note: beside the title."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Bars:
    """Bars that share a scale: one row a name, one bar or several in it."""

    title: str
    rows: Sequence[BarRow]
    keys: Sequence[tuple[str, str]] = ()
    zero: float | None = None


@dataclass(frozen=True)
class BarRow:
    """name, note: to the left; values: to the right, of the first bars; told: all bars, in words."""

    name: str
    note: str
    bars: Sequence[Bar]
    values: Sequence[Cell]
    told: str


def facts_of(content: Content) -> list[tuple[str, str]]:
    """What was evaluated, on what, and how."""
    settings = content["settings"]
    versions = [f"{service} {version}" for service, version in content.get("versions", {}).items()]
    facts = {
        "evaluated": content.get("evaluated", ""),
        "versions": ", ".join(versions),
        "dataset": content.get("folder", ""),
        "content": _short(content.get("dataset", "")),
        "split": content.get("split", "time"),
        "training days": _days(settings.get("train_days", ())),
        "evaluation days": _days(settings.get("eval_days", ())),
        "rows": f"{settings.get('rows', 0):,} of {settings.get('users', 0):,} users, "
        f"{settings.get('dropped_rows', 0):,} more left out",
        "catalog": f"{settings['items']:,} items" if "items" in settings else "",
        "candidates": f"{settings['candidates']:,} a row" if "candidates" in settings else "",
        "seen items": settings.get("seen_items", ""),
        "query tower": content.get("query", ""),
        "intervals": settings.get("intervals", ""),
        "seed": str(settings.get("seed", "")),
        "cascade": content.get("cascade", ""),
        "made": content.get("made", ""),
    }
    for name, training in content.get("training", {}).items():
        facts[f"training {name}"] = (
            f"{training['rows']:,} rows, best of {training['epochs']} epochs: {training['best_epoch']}"
        )
    for name, why in settings.get("baselines_skipped", {}).items():
        facts[name] = f"skipped: {why}"
    return [(name, value) for name, value in facts.items() if value]


def headlines_of(content: Content) -> list[tuple[str, Cell]]:
    """The few numbers to read first."""
    rows = {row["model"]: row for row in _rows(content)}
    return [
        (title, _cell(rows[model], metric))
        for model, metric, title in HEADLINES
        if metric in rows.get(model, {}).get("metrics", {})
    ]


def leads_of(content: Content) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The comparisons with the best baseline: those of all rows, and those of the slices."""
    found = content.get("comparisons", ())
    parts = (
        ("all rows", [one for one in found if one["slice"] == ALL]),
        ("slices", [one for one in found if one["slice"] != ALL]),
    )
    return [(name, part) for name, part in parts if part]


def metric_tables(content: Content) -> Iterator[Table]:
    """All metrics of all models, on all rows; then what their lists are like."""
    rows = _rows(content)
    count = f"{rows[0]['rows']:,} rows" if rows else ""
    for title, metrics in (("Metrics", METRICS), ("What the lists are like", LIST_METRICS)):
        yield _table(title, count, metrics, rows, content)


def slice_tables(content: Content) -> Iterator[Table]:
    """All metrics of all models, a table a slice."""
    for name in _slices(content):
        rows = _rows(content, name)
        yield _table(name, f"{rows[0]['rows']:,} rows", METRICS, rows, content)


def model_bars(content: Content) -> list[Bars]:
    """Models beside each other, on all rows."""
    rows = _rows(content)
    found = []
    for metric in BARS:
        having = [row for row in rows if metric in row["metrics"]]
        scale = charts.scale_of([row["metrics"][metric] for row in having], [_span(row, metric) for row in having])
        lines = []
        for row in having:
            css = css_of(row["model"], content)
            lines.append(
                _bar_row(row["model"], "", [(row["model"], css, row["metrics"][metric], _span(row, metric))], scale)
            )
        if lines:
            found.append(Bars(metric, lines))
    return found


def slice_bars(content: Content) -> list[Bars]:
    """On each slice the cascade, retrieval alone, and whichever baseline is best there."""
    found = []
    for metric in BARS:
        shown = [(name, _contestants(content, name, metric)) for name in _slices(content)]
        everyone = [row for _, rows in shown for _, row in rows]
        scale = charts.scale_of([row["metrics"][metric] for row in everyone], [_span(row, metric) for row in everyone])
        lines = [
            _bar_row(
                name,
                f"{rows[0][1]['rows']:,} rows",
                [(row["model"], css, row["metrics"][metric], _span(row, metric)) for css, row in rows],
                scale,
            )
            for name, rows in shown
            if rows
        ]
        if lines:
            keys = [(CASCADE, "s1"), (TWO_TOWER, "s2"), ("best baseline", "s3")]
            found.append(Bars(metric, lines, keys))
    return found


def ablation_bars(content: Content) -> list[Bars]:
    """What each model loses of a metric without a group of features."""
    found = []
    for metric in BARS:
        losses = [one for one in content.get("ablations", ()) if one["metric"] == metric]
        if not losses:
            continue
        scale = charts.scale_of([one["loss"] for one in losses], [one["interval"] for one in losses])
        lines = []
        for group in dict.fromkeys(one["group"] for one in losses):
            mine = {one["model"]: one for one in losses if one["group"] == group}
            bars = [
                (model, css, mine[model]["loss"], mine[model]["interval"])
                for model, css in ((CASCADE, "s1"), (TWO_TOWER, "s2"))
                if model in mine
            ]
            lines.append(_bar_row(group, "", bars, scale, sign="+", numbers=2))
        found.append(Bars(f"{metric} lost", lines, [(CASCADE, "s1"), (TWO_TOWER, "s2")], round(100 * scale.at(0.0), 2)))
    return found


def recall_plot(content: Content) -> Plot | None:
    """Recall against k, a line a model."""
    curves = content.get("curves", {}).get("recall", ())
    curves = [one for one in curves if one["k"]]
    if not curves:
        return None
    last = max(one["k"][-1] for one in curves)
    top = max(max(one["recall"]) for one in curves) or 1.0
    told = "; ".join(f"{one['model']} {one['recall'][-1]:.3f} at {one['k'][-1]}" for one in curves)
    return charts.plot(
        "Recall within the first k",
        f"Recall against k: {told}",
        ("k", Scale(1, last, log=True), [k for k in (1, 5, 10, 20, 50, 100, 300) if k <= last], lambda k: f"{k:g}"),
        ("recall", Scale(0, top), charts.ticks(0, top), lambda value: f"{value:.3f}".rstrip("0").rstrip(".") or "0"),
        [Series(one["model"], css_of(one["model"], content), one["k"], one["recall"]) for one in curves],
    )


def reliability_plot(content: Content) -> Plot | None:
    """Observed against predicted, a point a bin."""
    curves = content.get("curves", {}).get("reliability", ())
    if not curves:
        return None
    top = max(max(*one["predicted"], *one["observed"]) for one in curves)
    told = "; ".join(f"{one['model']}, {len(one['count'])} bins of {min(one['count']):,} rows" for one in curves)
    ticks = charts.ticks(0, top)
    series = [Series("perfect", "reference", (0, top), (0, top), marked=False)]
    series += [Series(one["model"], css_of(one["model"], content), one["predicted"], one["observed"]) for one in curves]
    return charts.plot(
        "Calibration",
        f"Share of clicks against predicted probability: {told}",
        ("predicted probability", Scale(0, top), ticks, _percent),
        ("share of clicks", Scale(0, top), ticks, _percent),
        series,
    )


def reliability_tables(content: Content) -> Iterator[Table]:
    """The bins of the calibration plot with their counts."""
    for one in content.get("curves", {}).get("reliability", ()):
        bins = zip(one["predicted"], one["observed"], one["count"], strict=True)
        rows = [
            Row(str(at), "", [Cell(f"{predicted:.4f}"), Cell(f"{observed:.4f}"), Cell(f"{count:,}")])
            for at, (predicted, observed, count) in enumerate(bins, start=1)
        ]
        yield Table(f"Bins of {one['model']}", "", ("bin", "predicted", "observed", "rows"), rows)


def exposure_plot(content: Content) -> Plot | None:
    """How much of the first tens the most popular items have."""
    found = content.get("curves", {}).get("exposure")
    if not found:
        return None
    items = found["items"]
    count = items[-1]
    at = next((place for place, n in enumerate(items) if n >= count / 100), 0)
    told = "; ".join(f"{name} {_percent(shares[at])}" for name, shares in found["models"].items())
    series = [
        Series("every item alike", "reference", items, [n / count for n in items], marked=False),
        Series("training's interactions", "s0", items, found["interactions"], marked=False),
    ]
    series += [
        Series(name, css_of(name, content), items, shares, marked=False) for name, shares in found["models"].items()
    ]
    return charts.plot(
        "Popularity against recommendation share",
        f"Share of the places in all first tens that the {items[at]:,} most popular items have: {told}",
        (
            f"most popular items, of {count:,}",
            Scale(1, count, log=True),
            charts.decades(1, count),
            lambda n: f"{n:,.0f}",
        ),
        ("share of all places", Scale(0, 1), (0, 0.25, 0.5, 0.75, 1), _percent),
        series,
    )


def missing_of(content: Content) -> Iterator[str]:
    """What could not be drawn, and why, in sentences."""
    for table, columns in content.get("absent", {}).items():
        if columns:
            yield f"What needs {', '.join(columns)}: {table} has none."
    settings = content["settings"]
    if not any(row["intervals"] for row in _rows(content)):
        draws = settings.get("intervals", "none")
        yield "Intervals: none were drawn." if draws == "none" else "Intervals: there are too few users."
    if "curves" not in content:
        yield "Curves, calibration and popularity: the report is of an older release, which did not measure them."
    elif not content["curves"]["reliability"]:
        yield "Calibration: no model gives probabilities."
    if not content.get("ablations"):
        yield "Ablations: no features were hidden (--ablations 0)."
    elif "versions" in content:
        yield "What retrieval loses without features of items: bundles hold no candidate tower, so its bars are 0."
    if ORACLE not in _models(content):
        yield "The oracle: only an untouched generated shop knows its visitors' true probabilities."
    if not content.get("comparisons"):
        yield "Leads: there is no baseline to compare with."


def css_of(model: str, content: Content) -> str:
    """The mark of a model: the stages first, then the others in the report's order."""
    models = [CASCADE, TWO_TOWER, *(one for one in _models(content) if one not in (CASCADE, TWO_TOWER))]
    return f"s{models.index(model) % _SERIES + 1}"


def _contestants(content: Content, name: str, metric: str) -> list[tuple[str, Mapping[str, Any]]]:
    rows = {row["model"]: row for row in _rows(content, name) if metric in row["metrics"]}
    found = [(css, rows[model]) for model, css in ((CASCADE, "s1"), (TWO_TOWER, "s2")) if model in rows]
    baselines = [row for model, row in rows.items() if model not in (CASCADE, TWO_TOWER, ORACLE)]
    if baselines:
        found.append(("s3", max(baselines, key=lambda row: row["metrics"][metric])))
    return found


def _bar_row(
    name: str,
    note: str,
    bars: Sequence[tuple[str, str, float, Sequence[float] | None]],
    scale: Scale,
    *,
    sign: str = "",
    numbers: int = 1,
) -> BarRow:
    """numbers: so many of the bars have theirs beside them."""
    cells = [Cell(f"{value:{sign}.3f}", _range(span, sign) if span else "") for _, _, value, span in bars]
    said = [
        f"{model} {cell.value}" + (f" ({cell.span})" if cell.span else "")
        for (model, *_), cell in zip(bars, cells, strict=True)
    ]
    return BarRow(
        name,
        note,
        [charts.bar(css, text, value, span, scale) for text, (_, css, value, span) in zip(said, bars, strict=True)],
        cells[:numbers],
        ", ".join(said),
    )


def _table(title: str, note: str, metrics: Sequence[str], rows: Sequence[Mapping[str, Any]], content: Content) -> Table:
    names = [name for name in metrics if any(name in row["metrics"] for row in rows)]
    lines = [Row(row["model"], css_of(row["model"], content), [_cell(row, name) for name in names]) for row in rows]
    return Table(title, note, ("model", *(name.replace("_", " ") for name in names)), lines)


def _cell(row: Mapping[str, Any], metric: str) -> Cell:
    if metric not in row["metrics"]:
        return Cell()
    span = _span(row, metric)
    return Cell(f"{row['metrics'][metric]:.3f}", _range(span) if span else "")


def _span(row: Mapping[str, Any], metric: str) -> Sequence[float] | None:
    found: Sequence[float] | None = row["intervals"].get(metric)
    return found


def _range(span: Sequence[float], sign: str = "") -> str:
    return f"{span[0]:{sign}.3f} to {span[1]:{sign}.3f}"


def _rows(content: Content, name: str = ALL) -> list[Mapping[str, Any]]:
    return [row for row in content["rows"] if row["slice"] == name]


def _slices(content: Content) -> list[str]:
    return list(dict.fromkeys(row["slice"] for row in content["rows"]))


def _models(content: Content) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in content["rows"]))


def _days(days: Sequence[str]) -> str:
    if not days:
        return ""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} days)"


def _short(fingerprint: str) -> str:
    return fingerprint[:12]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
