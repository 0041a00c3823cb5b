"""Command groups: errors as one sentence, and subcommands that are imported when asked for."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from cascade.errors import CascadeError


class SentenceGroup(TyperGroup):
    """Tells an error raised on purpose as its sentence, with exit code 1. A defect keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CascadeError as error:
            from rich.console import Console

            # Paths and log lines are shown as they are: brackets in them are no markup.
            console = Console(stderr=True)
            console.print("[bold red]error:[/bold red] ", end="")
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error


def lazy_group(module: str, attribute: str = "app") -> type[TyperGroup]:
    """A group whose commands are those of the Typer app in `module`, imported when one is asked for."""

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            self._load()
            return super().list_commands(ctx)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            self._load()
            return super().get_command(ctx, cmd_name)

        def _load(self) -> None:
            if not self.commands:
                group = typer.main.get_group(getattr(importlib.import_module(module), attribute))
                self.commands = dict(group.commands)

    return LazyGroup
