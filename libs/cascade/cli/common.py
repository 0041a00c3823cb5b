"""What several commands need: settings, a console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade.errors import CascadeError

if TYPE_CHECKING:
    from rich.console import Console

    from cascade.settings import Settings


class CommandError(CascadeError):
    """A command cannot do what it was asked to."""


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `.env`, with a command's own options over them (None overrides nothing).

    Raises CommandError that names every variable at fault.
    """
    from pydantic import ValidationError

    from cascade.settings import Settings

    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(
            f"CASCADE_{'_'.join(str(part) for part in fault['loc']).upper()} is {fault['input']!r}: {fault['msg']}"
            for fault in error.errors()
        )
        raise CommandError(f"settings at fault: {faults}") from error


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    return Console()
