"""`cascade canary`: try a version on a few users, watch it, make it stable or take it back."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.common import CommandError, console, load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from cascade.canary.policy import Policy
    from cascade.canary.record import Record
    from cascade.settings import Settings
    from cascade.store import ModelStore
    from cascade.store.canary import Canary

app = typer.Typer(no_args_is_help=True, help="Canary of a model: start, status, judge, promote, abort.")


class Service(StrEnum):
    """Services that can have one."""

    retrieval = "retrieval"
    ranker = "ranker"


ServiceName = Annotated[Service, typer.Argument(help="Whose canary.")]


@app.command()
def start(
    service: ServiceName,
    version: Annotated[
        str | None, typer.Argument(help="The version to try. Default: the one made last, unless it is stable.")
    ] = None,
    judge_it: Annotated[
        bool, typer.Option("--judge/--no-judge", help="Stay and judge it; otherwise Dagster's job does, or nobody.")
    ] = True,
) -> None:
    """Give a version to the first users, and judge it step by step: back at once if it is worse, else promoted.

    Ctrl-C leaves it at its share; `cascade canary judge` goes on.

    Example: cascade canary start ranker 20260118-3f2a9c01b7de
    """
    from cascade.canary.wiring import tell_both
    from cascade.store import canary as canaries

    settings = load_settings()
    store = _store(settings)
    canary = canaries.start(store, service.value, version or _newest(store, service.value), settings.canary_steps[0])
    tell_both(settings, service.value)
    console().print(f"{service.value} {canary.version} has {canary.percent:g} % of the users.", highlight=False)
    if judge_it:
        _judge(settings, service.value)
    else:
        job = f"canary_{service.value}"
        console().print(f"Nobody judges it yet: run Dagster's job {job}, or `cascade canary judge {service.value}`.")


@app.command()
def judge(service: ServiceName) -> None:
    """Judge the canary that runs, going on where its last judge stopped. Exit code 1 if it was not promoted.

    Example: cascade canary judge ranker
    """
    _judge(load_settings(), service.value)


@app.command()
def status(
    service: Annotated[Service | None, typer.Argument(help="Whose canary. Default: of every service.")] = None,
) -> None:
    """Show the canary, the evidence of its step, and what is still lacking; or how the last one ended.

    Example: cascade canary status ranker
    """
    from cascade.canary import record as records
    from cascade.canary.policy import policy_of
    from cascade.store import canary as canaries

    settings = load_settings()
    store = _store(settings)
    for name in [one.value for one in Service] if service is None else [service.value]:
        canary = canaries.read(store, name)
        if canary is None:
            console().print(f"{name}: there was no canary yet.")
            continue
        console().print(_headline(name, canary), highlight=False, soft_wrap=True)
        record = records.read(store, name)
        if record is not None and record.is_of(canary):
            console().print(evidence_table(record, policy_of(settings)))
            console().print(_open_points(canary, record, settings), highlight=False, soft_wrap=True, markup=False)


@app.command()
def promote(service: ServiceName) -> None:
    """Make the canary what is stable, whatever the evidence says.

    Example: cascade canary promote ranker
    """
    from cascade.canary.wiring import tell_both
    from cascade.store import canary as canaries

    settings = load_settings()
    release = canaries.promote(_store(settings), service.value)
    tell_both(settings, service.value)
    before = f"; before it: {release.previous}" if release.previous else ""
    console().print(f"{service.value} {release.stable} is stable{before}", highlight=False, soft_wrap=True)


@app.command()
def abort(
    service: ServiceName,
    reason: Annotated[str, typer.Option(help="Why; kept with the canary.")] = "aborted by hand",
) -> None:
    """Take the canary from all users, now: a local gateway is told, any other notices within seconds.

    Example: cascade canary abort ranker --reason "the pictures are wrong"
    """
    from cascade.canary.wiring import tell_both
    from cascade.store import canary as canaries

    settings = load_settings()
    canary = canaries.abort(_store(settings), service.value, reason)
    tell_both(settings, service.value)
    console().print(_headline(service.value, canary), highlight=False, soft_wrap=True)


def _store(settings: Settings) -> ModelStore:
    from cascade.store import ModelStore

    return ModelStore(settings.model_store_url)


def _newest(store: ModelStore, service: str) -> str:
    """The version made last. Raises CommandError where that is stable, or there is none."""
    from cascade.store.errors import BundleRefused

    made = []
    for version in store.versions(service):
        try:
            made.append((store.manifest(service, version).created, version))
        except BundleRefused:
            continue
    stable = store.alias(service, "stable")
    if not made or max(made)[1] == stable:
        raise CommandError(
            f"the newest version of {service} is {stable or 'none'}, which is no candidate; "
            f"name one of `cascade models list {service}`"
        )
    return max(made)[1]


def _judge(settings: Settings, service: str) -> None:
    from rich.live import Live

    from cascade.canary.policy import policy_of
    from cascade.canary.wiring import judge_of

    policy, to = policy_of(settings), console()
    with Live(console=to, auto_refresh=False, transient=not to.is_terminal) as shown:

        def report(canary: Canary, record: Record) -> None:
            shown.update(evidence_table(record, policy), refresh=to.is_terminal)

        with judge_of(settings, service, report) as watching:
            ending = watching.run()
        shown.update(evidence_table(ending.record, policy), refresh=True)
    to.print(f"{service} {ending.canary.version} is {ending.state}: {ending.reason}", highlight=False, soft_wrap=True)
    if ending.state != "promoted":
        raise typer.Exit(1)


def _headline(service: str, canary: Canary) -> str:
    if canary.runs:
        return f"{service} {canary.version} has {canary.percent:g} % of the users."
    why = f": {canary.reason}" if canary.reason else ""
    return f"{service} {canary.version} was {canary.state}{why}"


def _open_points(canary: Canary, record: Record, settings: Settings) -> str:
    import time

    from cascade.canary.judge import judged
    from cascade.canary.policy import policy_of

    if record.verdict:
        return record.verdict
    if not canary.runs:
        return ""
    _, why = judged(record, policy_of(settings), time.time())
    looked = f"looked at {max(time.time() - record.seen, 0):.0f} s ago"
    trouble = f"; the last look saw nothing: {record.trouble}" if record.trouble else ""
    return f"{why}; {looked}{trouble}"


def evidence_table(record: Record, policy: Policy) -> Table:
    """One row a signal of the step."""
    from rich import box
    from rich.table import Table

    from cascade.canary.table import COLUMNS, rows

    title = f"{record.version} at {record.percent:g} % of the users; an alarm is 100 % of evidence"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows(record, policy):
        table.add_row(*row.cells())
    return table
