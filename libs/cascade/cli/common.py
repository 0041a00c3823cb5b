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
            f"CASCADE_{'_'.join(str(part) for part in fault['loc']).upper()} is {_shown(fault)}: {fault['msg']}"
            for fault in error.errors()
        )
        raise CommandError(f"settings at fault: {faults}") from error


def _shown(fault: Any) -> str:
    """The value at fault, unless it is a secret's."""
    from pydantic import SecretStr

    from cascade.settings import Settings

    field = Settings.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
    secret = field is not None and field.annotation in (SecretStr, SecretStr | None)
    return "a secret" if secret else repr(fault["input"])


def key_headers(settings: Settings) -> dict[str, str]:
    """What a call to the gateway carries where CASCADE_API_KEY is set."""
    return {} if settings.api_key is None else {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    return Console()
