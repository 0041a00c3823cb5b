"""`cascade keys`: API keys of the gateway. The file holds hashes; a key is shown once, when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cascade.access.api_keys import Scope
from cascade.cli.common import CommandError, console, load_settings

if TYPE_CHECKING:
    from cascade.access.api_keys import KeyFile

app = typer.Typer(no_args_is_help=True, help="API keys of the gateway: create, list, revoke.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will hold it, for people.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; again for more than one.")],
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires. Default: never.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests a second. Default: the gateway's.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Requests at once. Default: the gateway's.")] = None,
) -> None:
    """Make a key and print it: the last line of the output, once and never again.

    Gateways know it within seconds. To rotate a key, create the new one, give it out, then revoke the old.

    Example: cascade keys create "shop backend" --scope recommend --scope interact --days 90
    """
    from datetime import UTC, datetime, timedelta

    from pydantic import ValidationError

    from cascade.access.api_keys import make_key

    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    try:
        text, key = make_key(name, scope, expires=expires, rate=rate, burst=burst)
    except ValidationError as error:
        fault = error.errors()[0]
        raise CommandError(f"{fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from error
    file = _file()
    file.add(key)
    to = console()
    to.print(f"key {key.id} is in {file.path}", highlight=False, markup=False, soft_wrap=True)
    to.print("It is not shown again:")
    to.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command("list")
def list_keys() -> None:
    """List the keys: id, holder, scopes, dates. Secrets are nowhere.

    Example: cascade keys list
    """
    from rich.table import Table
    from rich.text import Text

    file = _file()
    table = Table(title=Text(str(file.path)), title_justify="left")
    for column in ("id", "name", "scopes", "created", "expires", "rate", "burst"):
        table.add_column(column)
    for key in file.read() if file.path.exists() else []:
        table.add_row(
            key.id,
            Text(key.name),
            " ".join(sorted(key.scopes)),
            f"{key.created:%Y-%m-%d}",
            "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}",
            "" if key.rate is None else f"{key.rate:g}",
            "" if key.burst is None else str(key.burst),
        )
    console().print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `cascade keys list` shows it.")]) -> None:
    """Revoke a key. Gateways refuse it within seconds.

    Example: cascade keys revoke 3f2a9c01
    """
    key = _file().revoke(key_id)
    console().print(f"key {key.id} ({key.name}) is revoked", highlight=False, markup=False)


def _file() -> KeyFile:
    from cascade.access.api_keys import KeyFile

    return KeyFile(load_settings().keys_file)
