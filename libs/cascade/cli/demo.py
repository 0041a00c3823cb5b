"""`cascade demo`: the five-minute tour of a running system."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cascade.cli.common import console, load_settings


class ChapterName(StrEnum):
    """Chapters that can be left out."""

    known = "known"
    newcomer = "newcomer"
    seen = "seen"
    shift = "shift"
    fine_tune = "fine-tune"
    canary = "canary"


def demo(
    skip: Annotated[
        list[ChapterName] | None, typer.Option(help="Leave this chapter out; may be given several times.")
    ] = None,
    pause: Annotated[bool, typer.Option("--pause/--no-pause", help="Wait for Enter between chapters.")] = True,
    yes: Annotated[
        bool, typer.Option("--yes", help="Fine-tune without asking; without a terminal it is left out otherwise.")
    ] = False,
) -> None:
    """Show what the running system does: lists, clicks, a day learned, a canary; each with the command to repeat it.

    Example: cascade demo --no-pause --skip fine-tune
    """
    from cascade.local.errors import NotRunning
    from cascade.local.system import run_folder
    from cascade.tour import tour
    from cascade.tour.guide import Guide

    settings, to = load_settings(), console()
    interactive = pause and sys.stdin.isatty()
    try:
        run_folder(settings).running()
    except NotRunning as error:
        if not interactive:
            raise
        to.print(str(error), markup=False, highlight=False, soft_wrap=True)
        if not typer.confirm("Start it now, in the background (`cascade up --detach`)?"):
            raise typer.Exit(1) from error
        from cascade.cli import system

        system.up(detach=True)
    try:
        tour.run(settings, Guide(to, pauses=interactive, yes=yes), [one.value for one in skip or ()])
    except KeyboardInterrupt:
        to.print("The tour ends here.")
        raise typer.Exit(130) from None
    to.print("That was the tour. `cascade --help` lists what else there is.", highlight=False)
