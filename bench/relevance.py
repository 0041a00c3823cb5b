"""The cascade beside baselines on folders that nothing was tuned on but the baselines themselves.

As `cascade evaluate --dataset` does it, hyper-parameters at their defaults: global time split, items met left out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bench.folders import KINDS, write_folder
from bench.report import Report
from cascade.features.spec import EMBEDDING_DIM
from cascade.training.contestants import ALL_BASELINES
from cascade.training.evaluation import ALL, CASCADE, TWO_TOWER, Scope, evaluate
from cascade.training.offline import CachedDataset, Content, prepare, train
from cascade.training.parameters import Parameters
from cascade.training.report import EvaluationReport

SEED, ROWS, REPLICATES = 0, 3_000, 1_000
METRICS = ("recall@10", "recall@100", "recall@300", "ndcg@10")


def run(report: Report) -> None:
    """One folder after another."""
    report.say(
        "Interactions of three generated shops, ids and timestamps alone (`bench/folders.py`), evaluated as `cascade "
        "evaluate --dataset` does: the last tenth by time, items met left out, default hyper-parameters. EASE and the "
        "other baselines choose theirs on a time before the split. A lead is over the best baseline of the metric; "
        "in brackets the 95 % interval over users."
    )
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="cascade-relevance-") as folder:
            _tell(report, kind, *_evaluated(kind, Path(folder)))


def _evaluated(kind: str, folder: Path) -> tuple[int, EvaluationReport]:
    count = write_folder(kind, folder / "shop", SEED)
    dataset = CachedDataset(folder / "shop")
    nothing = np.zeros((len(dataset.items()), EMBEDDING_DIM), np.float32)
    prepared = prepare(dataset, folder / "work", lambda: Content(nothing, nothing, False, False), seed=SEED)
    trained = train(prepared, Parameters(), seed=SEED, threads=2)
    scope = Scope(max_rows=ROWS, exclude_seen=True, baselines=ALL_BASELINES, new_user_events=(), replicates=REPLICATES)
    return count, evaluate(
        dataset,
        trained.retrieval,
        trained.ranker,
        prepared.train_days,
        prepared.eval_days,
        None,
        scope,
        seed=SEED,
        threads=2,
        rows_file=prepared.rows_file,
        train_file=prepared.train_file,
        tower=trained.towers.candidate,
    )


def _tell(report: Report, kind: str, interactions: int, found: EvaluationReport) -> None:
    rows = {row.model: row.metrics for row in found.rows if row.slice == ALL}
    report.say(f"## {kind}", f"{interactions:,} interactions.")
    table = [[model, *(f"{metrics[name]:.4f}" for name in METRICS)] for model, metrics in rows.items()]
    report.table(["model", *METRICS], table)
    for one in found.comparisons:
        if one.slice != ALL or one.model not in (TWO_TOWER, CASCADE):
            continue
        low, high = one.interval or (float("nan"), float("nan"))
        report.say(f"{one.metric}: {one.model} leads {one.baseline} by {one.lead:+.4f} ({low:+.4f} to {high:+.4f}).")
        if one.model == CASCADE:
            ratio = 1 + one.lead / one.of_baseline
            report.figure(f"{kind}.{one.metric}", ratio, "x", at_least=1.0, note=f"of {one.baseline}'s")
