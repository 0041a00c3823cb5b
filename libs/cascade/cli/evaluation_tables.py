"""The tables of `cascade evaluate`, narrow enough for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table

from cascade.training.report import LIST_METRICS, METRICS, EvaluationReport, Span

_INTERVALS = ("recall@10", "ndcg@10", "mrr", "hit_rate@10", "auc", "calibration_error")


def tables_of(report: EvaluationReport, about: Mapping[str, Any] | None = None) -> Iterator[RenderableType]:
    """What was done; every metric on every slice; intervals; lists; leads over the baselines; ablations."""
    yield _settings(report, about or {})
    yield table_of(report)
    if any(row.intervals for row in report.rows):
        yield _intervals(report)
    yield _lists(report)
    if report.comparisons:
        yield _comparisons(report)
    if report.ablations:
        yield _ablations(report)
    if about and "off_policy" in about:
        yield _off_policy(about["off_policy"])


def table_of(report: EvaluationReport) -> Table:
    """The report's rows, a section a slice; a metric that a model does not have stays empty."""
    table = _table("Evaluation", "model")
    for name in METRICS:
        heading = name.replace("calibration", "calib.").replace("@", "\n@").replace("_", "\n")
        table.add_column(heading, justify="right", no_wrap=True)
    shown_slice = None
    for row in report.rows:
        if row.slice != shown_slice:
            table.add_section()
            table.add_row(f"[bold]{row.slice}[/bold] ({row.rows:,})")
            shown_slice = row.slice
        table.add_row(row.model, *(f"{row.metrics[name]:.3f}" if name in row.metrics else "" for name in METRICS))
    return table


def _settings(report: EvaluationReport, about: Mapping[str, Any]) -> Table:
    table = _table("What was measured", "", "")
    absent = about.get("absent", {})
    lines = {
        "split": about.get("split", "time"),
        "query tower": about.get("query", ""),
        "training days": _days(report.settings.get("train_days", ())),
        "evaluation days": _days(report.settings.get("eval_days", ())),
        "rows": f"{report.settings.get('rows', 0):,} of {report.settings.get('users', 0):,} users, "
        f"{report.settings.get('dropped_rows', 0):,} more left out",
        "seen items": report.settings.get("seen_items", ""),
        "without": "; ".join(f"{name}: {', '.join(columns)}" for name, columns in absent.items() if columns)
        or "nothing",
    }
    for name, training in about.get("training", {}).items():
        lines[f"training {name}"] = (
            f"{training['rows']:,} rows, best of {training['epochs']} epochs: {training['best_epoch']}, "
            f"{training['seconds']:.0f} s"
        )
    for name, chosen in report.settings.get("baselines", {}).items():
        if chosen:
            lines[name] = ", ".join(f"{key} {value:g}" for key, value in chosen.items())
    for name, why in report.settings.get("baselines_skipped", {}).items():
        lines[name] = f"skipped: {why}"
    for name, value in lines.items():
        table.add_row(name, str(value))
    return table


def _intervals(report: EvaluationReport) -> Table:
    """Of all rows."""
    names = [name for name in _INTERVALS if any(name in row.intervals for row in report.rows)]
    table = _table("95 % intervals, all rows", "model", *names)
    for row in (row for row in report.rows if row.slice == "all"):
        table.add_row(row.model, *(_span(row.intervals.get(name), "") for name in names))
    return table


def _lists(report: EvaluationReport) -> Table:
    names = [name for name in LIST_METRICS if any(name in row.metrics for row in report.rows)]
    table = _table("Lists, all rows", "model", *(name.replace("@", "\n@") for name in names))
    for row in (row for row in report.rows if row.slice == "all"):
        table.add_row(row.model, *(f"{row.metrics[name]:.3f}" if name in row.metrics else "" for name in names))
    return table


def _comparisons(report: EvaluationReport) -> Table:
    table = _table("Lead over the best baseline", "slice", "metric", "model", "baseline", "lead", "95 %", "")
    colours = {"ahead": "green", "behind": "red", "level": "dim"}
    for one in report.comparisons:
        verdict = f"[{colours[one.verdict]}]{one.verdict}[/]"
        lead = f"{one.lead:+.3f}"
        table.add_row(one.slice, one.metric, one.model, one.baseline, lead, _span(one.interval, "+"), verdict)
    return table


def _ablations(report: EvaluationReport) -> Table:
    table = _table("What hiding a group of features loses", "hidden", "model", "metric", "value", "loss", "95 %")
    for one in report.ablations:
        numbers = (f"{one.value:.3f}", f"{one.loss:+.3f}", _span(one.interval, "+"))
        table.add_row(one.group, one.model, one.metric, *numbers)
    return table


def _off_policy(estimates: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(
        "Clicks a list, from logged impressions", "estimator", "assumption", "value", "95 %", "effective lists"
    )
    for one in estimates:
        effective = f"{one['effective']:,.0f} of {one['lists']:,}"
        table.add_row(
            one["estimator"], one["assumption"], f"{one['value']:.4f}", _span((one["low"], one["high"]), ""), effective
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    if columns == ("", ""):
        table.show_header, table.padding = False, (0, 1, 0, 0)
    elif len(columns) > 1:
        table.padding = (0, 1, 0, 0)
    for at, name in enumerate(columns):
        table.add_column(name, no_wrap=at == 0 or len(columns) > 2)
    return table


def _days(days: Sequence[str]) -> str:
    if not days:
        return ""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)})"


def _span(interval: Span | None, sign: str) -> str:
    return "" if interval is None else f"{interval[0]:{sign}.3f} {interval[1]:{sign}.3f}"
