"""`cascade data`: make, bring in and check dataset folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cascade.data import files
from cascade.data.contract import Dataset
from cascade.errors import CascadeError

app = typer.Typer(no_args_is_help=True, help="Make, bring in and check dataset folders.")

_out = Console()
_errors = Console(stderr=True)


class Size(StrEnum):
    """Names of the built-in shop's sizes."""

    tiny = "tiny"
    small = "small"
    seed = "seed"


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="The folder to write; made where it does not exist.")],
    size: Annotated[
        Size, typer.Option(help="tiny: for tests; small: 5,000 users, 10 days; seed: 300,000 users, 14 days.")
    ] = Size.small,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another shop; the same one the same bytes.")] = 1,
) -> None:
    """Generate the built-in shop: catalog, pictures, visitors and interactions with known true probabilities."""
    from cascade.data.generator import SIZES
    from cascade.data.generator import generate as generate_shop

    with _ending_well(), _progress() as report:
        _refuse_filled(out)
        generate_shop(out, replace(SIZES[size.value], seed=seed), report)
    _tell(out)


@app.command("import-retail-demo-store")
def import_retail_demo_store(
    source: Annotated[Path, typer.Argument(help="A folder with products.yaml and users.json.gz.")],
    out: Annotated[Path, typer.Argument(help="The dataset folder to write.")],
    days: Annotated[int, typer.Option(min=1, help="Days of interactions to simulate.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the tables leave open.")] = 1,
) -> None:
    """Bring in a Retail Demo Store catalog and its users, and simulate interactions from the personas."""
    from cascade.data.retail_demo_store import import_retail_demo_store as bring_in

    with _ending_well(), _progress() as report:
        _refuse_filled(out)
        bring_in(source, out, days, seed, report)
    _tell(out)


@app.command()
def validate(folder: Annotated[Path, typer.Argument(help="The dataset folder to check.")]) -> None:
    """Check a dataset folder against the data contract and name every fault."""
    from cascade.data.validation import validate as find_faults

    with _ending_well(), _progress() as report:
        faults = find_faults(folder, progress=report)
    if faults:
        for fault in faults:
            _out.print(f"[red]✗[/red] {escape(str(fault))}", soft_wrap=True, highlight=False)
        plural = "fault" if len(faults) == 1 else "faults"
        _errors.print(f"{escape(str(folder))} breaks the data contract: {len(faults)} {plural}.", soft_wrap=True)
        raise typer.Exit(1)
    _tell(folder)


@app.command()
def retain() -> None:
    """Remove interactions, impressions and features older than CASCADE_KEEP_…_DAYS say."""
    from cascade.cli.common import load_settings
    from cascade.local.parts import absolute
    from cascade.privacy.retention import retain as remove

    with _ending_well():
        removed = remove(absolute(load_settings()))
        for name, count in removed.items():
            _out.print(f"{name.replace('_', ' ')}: {count} removed", highlight=False)


def _refuse_filled(out: Path) -> None:
    """Days or pictures of another shop must not stay beside the new one's."""
    if out.is_dir() and any(out.iterdir()):
        raise CascadeError(f"{out} is not empty; give a new folder, or empty this one first")


def _tell(folder: Path) -> None:
    with _ending_well():
        dataset = Dataset(folder)
        days = dataset.days()
        _out.print(
            f"[green]✓[/green] {escape(str(folder))}: {dataset.users().num_rows:,} users, "
            f"{dataset.items().num_rows:,} items, {_interactions(dataset):,} interactions "
            f"on {len(days)} days, {days[0]} to {days[-1]}",
            soft_wrap=True,
            highlight=False,
        )
        absent = "; ".join(f"{table}: {', '.join(names)}" for table, names in dataset.absent().items() if names)
        if absent:
            _out.print(f"  without {escape(absent)}", soft_wrap=True, highlight=False)


def _interactions(dataset: Dataset) -> int:
    import pyarrow.parquet as pq

    return sum(int(pq.read_metadata(path).num_rows) for path in dataset.interaction_files())


@contextmanager
def _ending_well() -> Iterator[None]:
    """Errors that the user can mend end the command with their message; others keep their traceback."""
    try:
        yield
    except (CascadeError, OSError) as error:
        _errors.print(f"[red]Error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error


@contextmanager
def _progress() -> Iterator[files.Progress]:
    """A bar for each thing that is being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_errors, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield report
