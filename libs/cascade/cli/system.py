"""`cascade up`, `down`, `status`, `stop` and `start`: the local run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.common import CommandError, console, load_settings


class Size(StrEnum):
    """Sizes of the built-in shop."""

    tiny = "tiny"
    small = "small"
    seed = "seed"


PartName = Annotated[str, typer.Argument(help="retrieval, filter, ranker, gateway, redis or dagster")]


def up(
    shop: Annotated[
        Path | None, typer.Option(help="Dataset folder of your own shop. Default: the built-in shop.")
    ] = None,
    size: Annotated[Size | None, typer.Option(help="Size of the built-in shop. Default: small.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is ready.")] = False,
    one_process: Annotated[
        bool, typer.Option("--one-process", help="Run all services inside the gateway's process.")
    ] = False,
    dagster: Annotated[bool, typer.Option(help="Also run Dagster's page.")] = True,
    in_background: Annotated[bool, typer.Option("--in-background", hidden=True)] = False,
) -> None:
    """Build what is missing, start everything, print the addresses, keep it running. Ctrl-C stops it all.

    Safe to run again: finished assets are not built twice.

    Example: cascade up --shop ./my-shop --detach
    """
    from cascade.local import system
    from cascade.local.parts import absolute, python, settings_environment

    if shop is not None and not shop.is_dir():
        raise CommandError(
            f"there is no folder {shop}; `cascade data generate` and `cascade data import-retail-demo-store` make one"
        )
    settings = absolute(load_settings(shop=shop, shop_size=size.value if size else None))
    options = system.Options(one_process=one_process, dagster=dagster)
    if not detach:
        system.up(settings, options, console(), in_background=in_background)
        return
    command = python("-m", "cascade.cli", "up", "--in-background")
    command += ("--one-process",) if one_process else ()
    command += () if dagster else ("--no-dagster",)
    if not system.detach(command, settings_environment(settings), settings, console()):
        raise typer.Exit(1)


def down() -> None:
    """Stop everything that `cascade up` started, and wait until it is gone.

    Example: cascade down
    """
    from cascade.local import system

    system.down(load_settings(), console())


def status() -> None:
    """Show each part: its address, state, process and log. Exit code 1 when nothing runs.

    Example: cascade status
    """
    from rich.table import Table

    from cascade.local import system

    run = system.run_folder(load_settings()).running()
    table = Table(title=f"Cascade is {run.phase} (process {run.pid})", title_justify="left")
    for column in ("part", "address", "state", "process", "restarts"):
        table.add_column(column, no_wrap=True)
    for part in run.parts:
        table.add_row(part.name, part.address, part.state, str(part.pid or ""), str(part.restarts))
    to = console()
    to.print(table)
    for part in run.parts:
        to.print(f"log of {part.name}: {part.log}", soft_wrap=True, highlight=False)


def stop(name: PartName) -> None:
    """Stop one part of a running system and leave it down: see the others answer without it.

    Example: cascade stop ranker
    """
    from cascade.local import system

    system.stop_part(load_settings(), name)
    console().print(f"{name} is stopped; `cascade start {name}` starts it again.")


def start(name: PartName) -> None:
    """Start a part that `cascade stop` took down, and wait until it is ready.

    Example: cascade start ranker
    """
    from cascade.local import system

    system.start_part(load_settings(), name)
    console().print(f"{name} is ready.")
