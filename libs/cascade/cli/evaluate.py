"""`cascade evaluate` and `cascade tune`: how good are the models that serve, or would be on a dataset folder?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.common import CommandError, console, load_settings
from cascade.files import replacing

if TYPE_CHECKING:
    from rich.console import Console

    from cascade.data.contract import Dataset
    from cascade.evaluation_page import CatalogMap
    from cascade.settings import Settings
    from cascade.training.evaluation import Scope
    from cascade.training.offline import Prepared, Progress
    from cascade.training.report import EvaluationReport
    from cascade.training.stages import Ranker, Retrieval


class SplitName(StrEnum):
    """How evaluation rows are told from training rows."""

    time = "time"
    leave_last_out = "leave-last-out"


class BaselineChoice(StrEnum):
    """Which baselines compete."""

    light = "light"
    all = "all"


_DATASET = typer.Option(help="Train and evaluate on this dataset folder instead; needs no build and no running system.")
_SPLIT = typer.Option(help="With --dataset: the last tenth of the interactions, or each user's last one.")
_IMAGES = typer.Option(help="With --dataset: whether items' pictures are encoded.")
_TEXTS = typer.Option(help="With --dataset: whether items' texts are encoded.")
_SEEN = typer.Option(
    "--exclude-seen/--include-seen",
    help="Leave out what a visitor met before, as the filter does when serving. Default: with --dataset alone.",
)


def evaluate(
    dataset: Annotated[Path | None, _DATASET] = None,
    parameters: Annotated[
        Path | None, typer.Option(help="With --dataset: hyper-parameters, a .toml or .json file, as `tune` writes.")
    ] = None,
    split: Annotated[SplitName, _SPLIT] = SplitName.time,
    images: Annotated[bool, _IMAGES] = True,
    texts: Annotated[bool, _TEXTS] = True,
    exclude_seen: Annotated[bool | None, _SEEN] = None,
    baselines: Annotated[
        BaselineChoice, typer.Option(help="light: popularity and item-kNN; all: also ALS, BPR, EASE.")
    ] = BaselineChoice.all,
    ablations: Annotated[
        int, typer.Option(min=0, help="Rows on which each group of features is hidden in turn; 0: none.")
    ] = 500,
    draws: Annotated[int, typer.Option(min=0, help="Draws of users for the confidence intervals; 0: none.")] = 1000,
    off_policy: Annotated[
        bool, typer.Option("--off-policy", help="Also estimate clicks a list from the logged impressions.")
    ] = False,
    temperature: Annotated[
        float, typer.Option(min=1e-3, help="With --off-policy: of the re-ranking whose lists are estimated.")
    ] = 1.0,
    rows: Annotated[
        int | None,
        typer.Option(min=100, help="Interactions to sample. Default: CASCADE_EVALUATION_ROWS."),
    ] = None,
    alias: Annotated[str, typer.Option(help="Which bundles: stable, canary or previous.")] = "stable",
    out: Annotated[Path | None, typer.Option(help="Where the JSON goes. Default: <state>/evaluation.json.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write the report as a page: one file with tables, plots and a map.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON instead of the tables.")] = False,
) -> None:
    """Measure retrieval and the whole cascade against baselines and, on a generated shop, the oracle.

    On rows that no model was trained on: of the models that serve, or, with --dataset, of models trained here for it.
    Prints tables and writes the report as JSON.

    Example: cascade evaluate --dataset ./my-shop --out report.json --html report.html
    """
    from cascade.training.contestants import ALL_BASELINES, LIGHT_BASELINES
    from cascade.training.evaluation import Scope

    settings = load_settings(evaluation_rows=rows)
    scope = Scope(
        max_rows=settings.evaluation_rows,
        exclude_seen=dataset is not None if exclude_seen is None else exclude_seen,
        baselines=ALL_BASELINES if baselines is BaselineChoice.all else LIGHT_BASELINES,
        new_user_events=(0, 1, 3, 10),
        replicates=draws,
        ablations=ablations,
    )
    if dataset is None and parameters is not None:
        raise CommandError("--parameters is for models that are trained here; give --dataset too")
    to = _errors() if as_json else console()
    drawn = temperature if off_policy else None
    with _status(to, "Evaluating") as tell:
        if dataset is None:
            report, about, catalog = _of_bundles(settings, scope, alias, tell, drawn, mapped=html is not None)
        else:
            with _prepared(dataset, settings, split, images, texts, tell) as prepared:
                report, about, catalog = _of_dataset(
                    prepared, parameters, settings, scope, tell, drawn, mapped=html is not None
                )
    content = {**about, **report.to_dict()}
    if as_json:
        import json

        typer.echo(json.dumps(content, indent=2))
    else:
        from cascade.cli.evaluation_tables import tables_of

        for table in tables_of(report, about):
            to.print(table)
    if out is not None or dataset is None:
        target = out or settings.state_dir / "evaluation.json"
        write_report(content, target)
        to.print(f"Written to {target}", soft_wrap=True)
    if html is not None:
        from cascade.evaluation_page import render

        write_text(render({**content, "made": _now()}, catalog), html)
        to.print(f"Page written to {html}; open it in a browser", soft_wrap=True)


def tune(
    dataset: Annotated[Path, typer.Option(help="The dataset folder.")],
    minutes: Annotated[float, typer.Option(help="How long to search; a trial that has begun is finished.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Where the hyper-parameters go.")] = Path("parameters.json"),
    split: Annotated[SplitName, _SPLIT] = SplitName.time,
    images: Annotated[bool, _IMAGES] = True,
    texts: Annotated[bool, _TEXTS] = True,
    exclude_seen: Annotated[bool, _SEEN] = True,
    trials: Annotated[int | None, typer.Option(min=1, help="Of each model, at most.")] = None,
) -> None:
    """Search hyper-parameters for a dataset folder, judged on a time before the days that `evaluate` looks at.

    Example: cascade tune --dataset ./my-shop --minutes 30 --out parameters.json
    """
    from cascade.training.tuning import Trial
    from cascade.training.tuning import tune as search

    settings = load_settings()
    to = console()

    def told(trial: Trial) -> None:
        changes = ", ".join(f"{name} {_short(value)}" for name, value in _flat(trial.changes)) or "defaults"
        line = f"{trial.model:<9}  ndcg@10 {trial.ndcg_at_10:.4f}  {trial.seconds:5.0f} s  {changes}"
        to.print(line, markup=False, highlight=False, soft_wrap=True)

    with (
        _status(to, "Tuning") as tell,
        _prepared(dataset, settings, split, images, texts, tell) as prepared,
    ):
        found = search(
            prepared,
            prepared.train_file.parent / "tuning",
            minutes=minutes,
            exclude_seen=exclude_seen,
            seed=settings.seed,
            threads=settings.training_threads,
            weights=settings.event_weights,
            trials=trials,
            progress=told,
            stage=tell,
        )
    write_report(found.parameters, out)
    to.print(
        f"Written to {out}; evaluate with: cascade evaluate --dataset {dataset} --parameters {out}", soft_wrap=True
    )


def _of_bundles(
    settings: Settings, scope: Scope, alias: str, tell: Progress, temperature: float | None, *, mapped: bool
) -> tuple[EvaluationReport, dict[str, Any], CatalogMap | None]:
    """The models that serve, on the built dataset. mapped: whether the catalog's map is made too."""
    from cascade.data.contract import Dataset
    from cascade.data.generator import Shop
    from cascade.store import ModelStore
    from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
    from cascade.training.evaluation import evaluate as measure

    root = settings.dataset_dir
    if not root.is_dir():
        raise CommandError(f"there is no dataset at {root}; `cascade up` builds one, CASCADE_SHOP names your own")
    store = ModelStore(settings.model_store_url)
    retrieval, ranker = store.bundle("retrieval", alias), store.bundle("ranker", alias)
    dataset = Dataset(root)
    stages = RetrievalArtifacts.load(retrieval.path), RankerArtifacts.load(ranker.path)
    days = ranker.manifest.evaluation_days or _days_after(dataset, ranker.manifest.training_days)
    report = measure(
        dataset,
        *stages,
        ranker.manifest.training_days,
        days,
        Shop.oracle_of(root),
        scope,
        seed=settings.seed,
        threads=settings.training_threads,
        weights=settings.event_weights,
        progress=tell,
    )
    versions = {"retrieval": retrieval.version, "ranker": ranker.version}
    about: dict[str, Any] = {
        "evaluated": f"the models that the alias {alias} names",
        "folder": root.resolve().name,
        "dataset": dataset.fingerprint(),
        "versions": versions,
        "absent": dataset.absent(),
        "cascade": _version(),
    }
    if temperature is not None:
        about["off_policy"] = _off_policy(dataset, stages, days, settings, temperature, tell)
    return report, about, _map(dataset, *stages, settings, tell) if mapped else None


def _map(dataset: Dataset, retrieval: Retrieval, ranker: Ranker, settings: Settings, tell: Progress) -> CatalogMap:
    from cascade.evaluation_page import catalog_map

    tell("map of the catalog")
    return catalog_map(dataset, ranker.items, retrieval, settings.seed)


def _off_policy(
    dataset: Dataset,
    stages: tuple[Retrieval, Ranker],
    days: list[date],
    settings: Settings,
    temperature: float,
    tell: Progress,
) -> list[dict[str, Any]]:
    """Clicks a list of these stages, from the impressions of days that they did not learn from."""
    from dataclasses import asdict

    from cascade.training.release_value import value_of

    tell("off-policy")
    found = value_of(
        dataset,
        *stages,
        [day for day in dataset.impression_days() if day >= min(days)],
        temperature=temperature,
        seed=settings.seed,
        threads=settings.training_threads,
        weights=settings.event_weights,
    )
    return [asdict(one) for one in found]


def _of_dataset(
    prepared: Prepared,
    file: Path | None,
    settings: Settings,
    scope: Scope,
    tell: Progress,
    temperature: float | None,
    *,
    mapped: bool,
) -> tuple[EvaluationReport, dict[str, Any], CatalogMap | None]:
    """Models trained for the folder. mapped: whether the catalog's map is made too."""
    from cascade.data.generator import Shop
    from cascade.training.evaluation import evaluate as measure
    from cascade.training.offline import train
    from cascade.training.parameters import Parameters

    parameters = Parameters() if file is None else Parameters.load(file)
    trained = train(prepared, parameters, seed=settings.seed, threads=settings.training_threads, progress=tell)
    report = measure(
        prepared.dataset,
        trained.retrieval,
        trained.ranker,
        prepared.train_days,
        prepared.eval_days,
        Shop.oracle_of(prepared.dataset.root),
        scope,
        seed=settings.seed,
        threads=settings.training_threads,
        weights=settings.event_weights,
        rows_file=prepared.rows_file,
        train_file=prepared.train_file,
        tower=trained.towers.candidate,
        progress=tell,
    )
    trainings = {
        name: {"epochs": one.epochs, "best_epoch": one.best_epoch, "rows": one.rows, "seconds": round(one.seconds, 1)}
        for name, one in trained.reports.items()
    }
    about: dict[str, Any] = {
        "evaluated": "models trained here for this folder",
        "folder": prepared.dataset.root.resolve().name,
        "dataset": prepared.dataset.fingerprint(),
        "cascade": _version(),
        "split": prepared.split,
        "query": prepared.query,
        "absent": prepared.dataset.absent(),
        "content": {"images": prepared.content.has_images, "texts": prepared.content.has_texts},
        "training": trainings,
        "parameters": parameters.to_dict(),
    }
    stages = trained.retrieval, trained.ranker
    if temperature is not None:
        about["off_policy"] = _off_policy(prepared.dataset, stages, prepared.eval_days, settings, temperature, tell)
    return report, about, _map(prepared.dataset, *stages, settings, tell) if mapped else None


@contextmanager
def _prepared(
    root: Path, settings: Settings, split: SplitName, images: bool, texts: bool, tell: Progress
) -> Iterator[Prepared]:
    """The folder, validated, split and encoded in a temporary folder."""
    import tempfile

    from cascade.data.validation import require_valid
    from cascade.features.source import QueryLimits
    from cascade.training.offline import CachedDataset, encode_content, prepare

    tell("validation")
    require_valid(root, gaps=True)
    with tempfile.TemporaryDirectory(prefix="cascade-evaluate-") as work:
        folder = Path(work)
        dataset = CachedDataset(root)
        yield prepare(
            dataset,
            folder,
            lambda: encode_content(
                dataset,
                folder,
                images=images,
                texts=texts,
                text_encoder=settings.text_encoder,
                seed=settings.seed,
                progress=tell,
            ),
            split=split.value,
            query=settings.training_query,
            mask_share=settings.mask_share,
            seed=settings.seed,
            weights=settings.event_weights,
            click_weights=settings.click_weights,
            limits=QueryLimits(memory=settings.duckdb_memory),
            progress=tell,
        )


@contextmanager
def _status(to: Console, doing: str) -> Iterator[Progress]:
    with to.status(doing) as shown:
        yield lambda stage: shown.update(f"{doing}: {stage}")


def _errors() -> Console:
    from rich.console import Console

    return Console(stderr=True)


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


def _flat(values: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flat(value) if isinstance(value, dict) else [(name, value)]
    return pairs


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _version() -> str:
    from importlib.metadata import version

    return version("cascade-recommender")


def _now() -> str:
    from datetime import UTC, datetime

    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def write_report(content: dict[str, Any], path: Path) -> None:
    """Write JSON whole or not at all. Raises CommandError where the folder is not there."""
    import json

    write_text(json.dumps(content, indent=2), path)


def write_text(text: str, path: Path) -> None:
    """Write a file whole or not at all. Raises CommandError where the folder is not there."""
    try:
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the report cannot be written to {path}: {error.strerror}") from error
