"""`cascade models`: which versions there are, which serves, and the steps to change that."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.common import console, load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from cascade.settings import Settings
    from cascade.store import ModelStore
    from cascade.store.bundles import Manifest
    from cascade.store.release import Release

_LISTED = {
    "retrieval": ("two_tower_recall_at_100", "two_tower_ndcg_at_10"),
    "ranker": ("ranker_auc", "cascade_ndcg_at_10"),
}
"""Metrics that a list has room for; of a version without them the first two."""

app = typer.Typer(no_args_is_help=True, help="Model versions: list, show, promote, rollback, retain.")


class Service(StrEnum):
    """Services that hold a bundle."""

    retrieval = "retrieval"
    ranker = "ranker"
    gateway = "gateway"


ServiceName = Annotated[Service, typer.Argument(help="Whose bundle.")]


@app.command("list")
def list_versions(
    service: Annotated[Service | None, typer.Argument(help="Whose bundles. Default: of every service.")] = None,
) -> None:
    """List the versions of a service, the newest first, with the aliases that name them.

    Example: cascade models list ranker
    """
    store = _store(load_settings())
    for one in Service if service is None else [service]:
        console().print(versions_table(store, one.value))


@app.command()
def show(
    service: ServiceName,
    version: Annotated[str, typer.Argument(help="A version, or stable, canary or previous.")] = "stable",
) -> None:
    """Show what a version is made of, and verify its files.

    Example: cascade models show ranker stable
    """
    from cascade.store.release import verified

    store = _store(load_settings())
    manifest = store.manifest(service.value, version)
    console().print(manifest_table(store, manifest))
    verified(store, service.value, manifest.version)
    console().print(f"{len(manifest.files)} files, all as they were written.")


@app.command()
def promote(
    service: ServiceName,
    version: Annotated[str, typer.Argument(help="The version to serve; `canary` promotes what that alias names.")],
) -> None:
    """Make a version the one that serves. Requests go on meanwhile; the version before stays for `rollback`.

    Example: cascade models promote ranker 20260118-3f2a9c01b7de
    """
    from cascade.store.release import promote as move

    settings = load_settings()
    _report(settings, move(_store(settings), service.value, version))


@app.command()
def rollback(service: ServiceName) -> None:
    """Make the version that served before serve again. Doing it twice undoes it.

    Example: cascade models rollback ranker
    """
    from cascade.store.release import rollback as move

    settings = load_settings()
    _report(settings, move(_store(settings), service.value))


@app.command()
def retain(
    service: ServiceName,
    keep: Annotated[int | None, typer.Option(min=1, help="How many to keep. Default: CASCADE_KEEP_VERSIONS.")] = None,
) -> None:
    """Remove all but the newest versions of a service, and never one that an alias names.

    Example: cascade models retain ranker --keep 5
    """
    from cascade.store.release import retention

    settings = load_settings(keep_versions=keep)
    removed = retention(_store(settings), service.value, settings.keep_versions)
    for version in removed:
        console().print(f"removed {service.value} {version}", highlight=False)
    console().print(f"{len(removed)} versions removed, {settings.keep_versions} newest and all named ones kept.")


def _store(settings: Settings) -> ModelStore:
    from cascade.store import ModelStore

    return ModelStore(settings.model_store_url)


def _report(settings: Settings, release: Release) -> None:
    """Tell the running services, and say what serves now. Exit code 1 where a service refuses."""
    from cascade.local.refresh import tell

    to = console()
    what = "is stable" if release.changed else "was stable already"
    before = f"; before it: {release.previous}" if release.previous else ""
    to.print(f"{release.service} {release.stable} {what}{before}", highlight=False, soft_wrap=True)
    told = tell(settings, release.service)
    if told is None:
        to.print("No local run could be told; services that follow this store find it at their next look.")
    elif told.problem is not None or told.version != release.stable:
        serving = told.version or "no version known"
        to.print(f"[red]The running {told.service} serves {serving}:[/red]", end=" ", highlight=False, soft_wrap=True)
        to.print(told.problem or "the alias moved on", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    else:
        to.print(f"The running {told.service} serves it.")


def versions_table(store: ModelStore, service: str) -> Table:
    """One row a version, the newest first. A version whose manifest cannot be read says so."""
    from rich import box
    from rich.table import Table

    from cascade.store.errors import BundleRefused

    table = Table(title=service, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("version", no_wrap=True)
    for column in ("aliases", "created (UTC)", "parent", "days", "metrics"):
        table.add_column(column, overflow="fold")
    rows = []
    for version in store.versions(service):
        names = _aliases(store, service, version)
        try:
            manifest = store.manifest(service, version)
        except BundleRefused as error:
            rows.append(("", (version, names, "", "", "", f"refused: {type(error).__name__}")))
            continue
        created = f"{manifest.created:%Y-%m-%d %H:%M}"
        columns = (version, names, created, manifest.parent or "–", _days(manifest), _metrics(manifest))
        rows.append((manifest.created.isoformat(), columns))
    for _, row in sorted(rows, reverse=True):
        table.add_row(*row)
    if not rows:
        table.add_row("none yet", *[""] * 5)
    return table


def manifest_table(store: ModelStore, manifest: Manifest) -> Table:
    """All that a manifest says, but for the files' hashes."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("service", manifest.service)
    table.add_row("version", manifest.version)
    table.add_row("aliases", _aliases(store, manifest.service, manifest.version))
    table.add_row("created", f"{manifest.created:%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("parent", manifest.parent or "–")
    table.add_row("trained on", _days(manifest))
    table.add_row("evaluated on", ", ".join(str(day) for day in manifest.evaluation_days) or "–")
    for name, score in manifest.metrics.items():
        table.add_row(name, f"{score:.4f}")
    for name, source in manifest.lineage.items():
        table.add_row(name, source)
    table.add_row("format", str(manifest.format))
    return table


def _aliases(store: ModelStore, service: str, version: str) -> str:
    return ", ".join(alias for alias, named in store.aliases(service).items() if named == version)


def _days(manifest: Manifest) -> str:
    days = sorted(manifest.training_days)
    if not days:
        return "–"
    return str(days[0]) if len(days) == 1 else f"{len(days)}: {days[0]:%m-%d} to {days[-1]:%m-%d}"


def _metrics(manifest: Manifest) -> str:
    chosen = [name for name in _LISTED.get(manifest.service, ()) if name in manifest.metrics]
    shown = chosen or list(manifest.metrics)[:2]
    return ", ".join(f"{_short(name)} {manifest.metrics[name]:.3f}" for name in shown) or "–"


def _short(metric: str) -> str:
    return metric.removeprefix("two_tower_").removeprefix("cascade_").removeprefix("ranker_").replace("_at_", "@")
