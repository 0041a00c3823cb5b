"""`cascade evaluate`: how good are the models that serve?"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.common import CommandError, console, load_settings
from cascade.files import replacing

if TYPE_CHECKING:
    from rich.table import Table

    from cascade.data.contract import Dataset
    from cascade.training.report import EvaluationReport


def evaluate(
    out: Annotated[Path | None, typer.Option(help="Where the JSON goes. Default: <state>/evaluation.json.")] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=100, help="Interactions to sample. Default: CASCADE_EVALUATION_ROWS."),
    ] = None,
    alias: Annotated[str, typer.Option(help="Which bundles: stable, canary or previous.")] = "stable",
    exclude_seen: Annotated[
        bool,
        typer.Option("--exclude-seen", help="Leave out what a visitor met before, as the filter does when serving."),
    ] = False,
) -> None:
    """Measure the models that serve against popularity, item-kNN and, on a generated shop, the oracle.

    On days that no model was trained on. Prints a table and writes it as JSON.

    Example: cascade evaluate --rows 5000 --out report.json
    """
    from cascade.data.contract import Dataset
    from cascade.data.generator import Shop
    from cascade.store import ModelStore
    from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
    from cascade.training.evaluation import evaluate as measure

    settings = load_settings(evaluation_rows=rows)
    root = settings.dataset_dir
    if not root.is_dir():
        raise CommandError(f"there is no dataset at {root}; `cascade up` builds one, CASCADE_SHOP names your own")
    store = ModelStore(settings.model_store_url)
    retrieval, ranker = store.bundle("retrieval", alias), store.bundle("ranker", alias)
    dataset = Dataset(root)
    to = console()
    with to.status("Evaluating") as shown:
        report = measure(
            dataset,
            RetrievalArtifacts.load(retrieval.path),
            RankerArtifacts.load(ranker.path),
            train_days=ranker.manifest.training_days,
            eval_days=ranker.manifest.evaluation_days or _days_after(dataset, ranker.manifest.training_days),
            oracle=Shop.oracle_of(root),
            max_rows=settings.evaluation_rows,
            seed=settings.seed,
            exclude_seen=exclude_seen,
            weights=settings.event_weights,
            progress=lambda stage: shown.update(f"Evaluating: {stage}"),
        )
    to.print(table_of(report))
    target = out or settings.state_dir / "evaluation.json"
    write_report(
        {
            "dataset": dataset.fingerprint(),
            "versions": {"retrieval": retrieval.version, "ranker": ranker.version},
            **report.to_dict(),
        },
        target,
    )
    to.print(f"Written to {target}", soft_wrap=True)


def _days_after(dataset: Dataset, training_days: list[date]) -> list[date]:
    """A fine-tuned model has learned from every day up to its last."""
    last = max(training_days)
    later = [day for day in dataset.days() if day > last]
    if not later:
        raise CommandError(
            f"these models learned from all days to {last}, and there is none after it to evaluate them on; "
            "Dagster shows how each day's models did on the day's held-out end"
        )
    return later


def table_of(report: EvaluationReport) -> Table:
    """The report's rows, a section a slice; a metric that a model does not have stays empty."""
    from rich import box
    from rich.table import Table

    from cascade.training.report import METRICS

    # Narrow throughout: ten columns in a terminal of 80.
    table = Table(title="Evaluation", title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("model", no_wrap=True)
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


def write_report(content: dict[str, object], path: Path) -> None:
    """Write JSON whole or not at all. Raises CommandError where the folder is not there."""
    import json

    try:
        with replacing(path) as beside:
            beside.write_text(json.dumps(content, indent=2))
    except OSError as error:
        raise CommandError(f"the report cannot be written to {path}: {error.strerror}") from error
