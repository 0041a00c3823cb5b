"""The result of an evaluation, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

METRICS = (
    "recall@10",
    "recall@100",
    "recall@300",
    "ndcg@10",
    "mrr",
    "auc",
    "log_loss",
    "calibration_error",
    "oracle_share",
)
"""In the order of the table. `oracle_share` is a model's NDCG@10 over the oracle's on the same slice."""

LIST_METRICS = ("hit_rate@10", "coverage@10", "gini@10", "novelty@10", "diversity@10", "oracle_top10")
"""A second table, of all rows: users hit, and what the lists are like. `oracle_top10` is the share of the oracle's ten
best items among a model's candidates."""

Span = tuple[float, float]
"""Where the middle 95 % of the bootstrap's draws lie."""


@dataclass(frozen=True)
class EvaluationRow:
    """One model on one slice; a metric that is not defined for the model is absent, and so is an interval of few users
    or of a metric that is no mean over users."""

    model: str
    slice: str
    rows: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Span] = field(default_factory=dict)

    def with_metric(self, name: str, value: float) -> EvaluationRow:
        """A copy with one metric more."""
        return replace(self, metrics={**self.metrics, name: value})


@dataclass(frozen=True)
class Comparison:
    """How much more a model has of a metric than the best baseline, on the same rows; `interval` is of the lead."""

    slice: str
    metric: str
    model: str
    baseline: str
    of_baseline: float
    lead: float
    interval: Span | None

    @property
    def verdict(self) -> str:
        """ahead or behind where the interval lies on one side of 0; level otherwise."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "level"
        return "ahead" if self.lead > 0 else "behind"


@dataclass(frozen=True)
class Ablation:
    """What a model loses of a metric when it does not see a group of features; `interval` is of the loss."""

    group: str
    model: str
    metric: str
    value: float
    loss: float
    interval: Span | None


@dataclass(frozen=True)
class RecallCurve:
    """A model's recall within its first k, on all rows. k: rising, as far as its lists go."""

    model: str
    k: Sequence[int]
    recall: Sequence[float]


@dataclass(frozen=True)
class Reliability:
    """What a model's probabilities are worth, on all rows: bins of equal size in order of probability.

    predicted, observed: of each bin, the mean probability and the share of clicks; count: rows in it, with negatives
    """

    model: str
    predicted: Sequence[float]
    observed: Sequence[float]
    count: Sequence[int]


@dataclass(frozen=True)
class Exposure:
    """Whom the first ten show, beside whom training met. Items in order of how often training met them, most first.

    items: n, rising to the size of the catalog; interactions: the first n items' share of training's interactions;
    models: by model, their share of the places in all first tens
    """

    items: Sequence[int]
    interactions: Sequence[float]
    models: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Curves:
    """What is more than a number; of all rows."""

    recall: tuple[RecallCurve, ...]
    reliability: tuple[Reliability, ...]
    exposure: Exposure


@dataclass(frozen=True)
class EvaluationReport:
    """All models on all slices, and how they were compared."""

    rows: tuple[EvaluationRow, ...]
    settings: Mapping[str, Any]
    comparisons: tuple[Comparison, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    curves: Curves | None = None

    def metric(self, model: str, name: str, slice_name: str = "all") -> float:
        """One number. Raises KeyError where the report has no such model, slice or metric."""
        return self.row(model, slice_name).metrics[name]

    def row(self, model: str, slice_name: str = "all") -> EvaluationRow:
        """One model on one slice. Raises KeyError where the report has none."""
        for row in self.rows:
            if (row.model, row.slice) == (model, slice_name):
                return row
        raise KeyError(f"no row for model {model!r} on slice {slice_name!r}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "settings": dict(self.settings),
            "rows": [
                {**asdict(row), "metrics": dict(row.metrics), "intervals": dict(row.intervals)} for row in self.rows
            ],
            "comparisons": [{**asdict(one), "verdict": one.verdict} for one in self.comparisons],
            "ablations": [asdict(one) for one in self.ablations],
            **({} if self.curves is None else {"curves": asdict(self.curves)}),
        }

    def to_markdown(self) -> str:
        """A table of slices and models, what leads and what each group of features is worth, and how it was done."""
        lines = [
            "| slice | model | rows | " + " | ".join(METRICS) + " |",
            "| --- | --- | ---: |" + " ---: |" * len(METRICS),
        ]
        for row in self.rows:
            cells = [f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in METRICS]
            lines.append(f"| {row.slice} | {row.model} | {row.rows:,} | " + " | ".join(cells) + " |")
        lines += self._lists_markdown() + self._comparisons_markdown() + self._ablations_markdown()
        settings = ", ".join(f"{key}: {_plain(value)}" for key, value in self.settings.items())
        return "\n".join([*lines, "", settings, ""])

    def _lists_markdown(self) -> list[str]:
        rows = [row for row in self.rows if row.slice == "all"]
        lines = ["", "| model | " + " | ".join(LIST_METRICS) + " |", "| --- |" + " ---: |" * len(LIST_METRICS)]
        for row in rows:
            cells = [f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in LIST_METRICS]
            lines.append(f"| {row.model} | " + " | ".join(cells) + " |")
        return lines

    def _comparisons_markdown(self) -> list[str]:
        if not self.comparisons:
            return []
        return [
            "",
            "| slice | metric | model | best baseline | lead | 95 % | |",
            "| --- | --- | --- | --- | ---: | ---: | --- |",
            *(
                f"| {one.slice} | {one.metric} | {one.model} | {one.baseline} {one.of_baseline:.4f} | "
                f"{one.lead:+.4f} | {_span(one.interval)} | {one.verdict} |"
                for one in self.comparisons
            ),
        ]

    def _ablations_markdown(self) -> list[str]:
        if not self.ablations:
            return []
        return [
            "",
            "| hidden | model | metric | value | loss | 95 % |",
            "| --- | --- | --- | ---: | ---: | ---: |",
            *(
                f"| {one.group} | {one.model} | {one.metric} | {one.value:.4f} | {one.loss:+.4f} | "
                f"{_span(one.interval)} |"
                for one in self.ablations
            ),
        ]


def _span(interval: Span | None) -> str:
    return "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)) and len(value) > 2:
        return f"{value[0]} to {value[-1]} ({len(value)})"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
