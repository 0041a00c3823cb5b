"""The result of an evaluation, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class EvaluationRow:
    """One model on one slice; a metric that is not defined for the model is absent."""

    model: str
    slice: str
    rows: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class EvaluationReport:
    """All models on all slices, and how they were compared."""

    rows: tuple[EvaluationRow, ...]
    settings: Mapping[str, Any]

    def metric(self, model: str, name: str, slice_name: str = "all") -> float:
        """One number. Raises KeyError where the report has no such model, slice or metric."""
        for row in self.rows:
            if (row.model, row.slice) == (model, slice_name):
                return row.metrics[name]
        raise KeyError(f"no row for model {model!r} on slice {slice_name!r}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "settings": dict(self.settings),
            "rows": [{**asdict(row), "metrics": dict(row.metrics)} for row in self.rows],
        }

    def to_markdown(self) -> str:
        """A table of slices and models, and a line on how they were compared."""
        lines = [
            "| slice | model | rows | " + " | ".join(METRICS) + " |",
            "| --- | --- | ---: |" + " ---: |" * len(METRICS),
        ]
        for row in self.rows:
            cells = [f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in METRICS]
            lines.append(f"| {row.slice} | {row.model} | {row.rows:,} | " + " | ".join(cells) + " |")
        settings = ", ".join(f"{key}: {_plain(value)}" for key, value in self.settings.items())
        return "\n".join([*lines, "", settings, ""])


def _plain(value: Any) -> str:
    if isinstance(value, list) and len(value) > 2:
        return f"{value[0]} to {value[-1]} ({len(value)})"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
