"""`cascade users`: forget a user everywhere, and show the receipt of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from cascade.cli.common import CommandError, console, key_headers, load_settings
from cascade.cli.recommend import problem_sentence

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 15.0
_LOOK_S = 0.5

app = typer.Typer(no_args_is_help=True, help="Visitors: forget one, show the receipt.")


@app.command()
def forget(
    user_id: Annotated[str, typer.Argument(help="The shop's own id of the user.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until every file is rewritten.")] = 60.0,
) -> None:
    """Remove whatever is kept of a user, and keep the id out from now on. It cannot be undone.

    Where the gateway asks for keys, set CASCADE_API_KEY to one with the scope admin.

    Example: cascade users forget u-17
    """
    with _gateway() as http:
        told = _ask(http, "DELETE", f"/v1/users/{quote(user_id, safe='')}")
        limit = time.monotonic() + wait
        while told["status"] != "done" and time.monotonic() < limit:
            time.sleep(_LOOK_S)
            told = _ask(http, "GET", f"/v1/forgettings/{told['receipt']}")
    _show(told)


@app.command()
def receipt(receipt_id: Annotated[str, typer.Argument(help="What `forget` printed as the receipt.")]) -> None:
    """Show what was removed of a forgotten user.

    Example: cascade users receipt 0123456789abcdef
    """
    with _gateway() as http:
        _show(_ask(http, "GET", f"/v1/forgettings/{quote(receipt_id, safe='')}"))


def _gateway() -> httpx.Client:
    import httpx

    from cascade.local.system import gateway_url

    settings = load_settings()
    # Proxies of the environment are for the world outside, not for one's own machine.
    return httpx.Client(
        base_url=gateway_url(settings), timeout=_TIMEOUT_S, trust_env=False, headers=key_headers(settings)
    )


def _ask(http: httpx.Client, method: str, path: str) -> dict[str, Any]:
    import httpx

    try:
        response = http.request(method, path)
    except httpx.TransportError as error:
        raise CommandError(f"the gateway at {http.base_url} does not answer; start it with `cascade up`") from error
    if response.is_error:
        raise CommandError(f"the gateway answered {response.status_code}: {problem_sentence(response.text)}")
    content: dict[str, Any] = response.json()
    return content


def _show(told: dict[str, Any]) -> None:
    to = console()

    def line(text: str) -> None:
        to.print(text, highlight=False, markup=False, soft_wrap=True)

    line(
        f"receipt {told['receipt']}: {told['status']}, asked {told['asked']}, finished {told['finished'] or 'not yet'}"
    )
    for place, count in told["removed"].items():
        line(f"  {place.replace('_', ' ')}: {count}")
    if told["days"]:
        line(f"  days: {', '.join(told['days'])}")
    for one in told["checkpoints"]:
        names = f" ({', '.join(one['aliases'])})" if one["aliases"] else ""
        line(f"  {one['service']} {one['version']}{names} learned from these days; replaced {one['replaced']}")
    for remark in told["remarks"]:
        line(f"  {remark}")
