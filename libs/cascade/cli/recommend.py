"""`cascade recommend`: one question to the running gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.common import CommandError, console, key_headers, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from cascade.api.gateway import RecommendationResponse

_TIMEOUT_S = 10.0


def recommend(
    user: Annotated[str, typer.Argument(help="The user's id; one nobody knows is a new visitor.")],
    device: Annotated[str | None, typer.Option(help="mobile, desktop or tablet")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Time of the visit, ISO 8601; UTC where no offset is given. Default: now."),
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="Length of the list.")] = 10,
    diversity: Annotated[bool, typer.Option("--diversity", help="Sample the list instead of taking the best.")] = False,
    temperature: Annotated[float, typer.Option(help="With --diversity: near 0 the best, large anything.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="With --diversity: the same draw each time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the gateway's answer as it came.")] = False,
) -> None:
    """Ask the running gateway for a user's list.

    Example: cascade recommend u-17 --device mobile --at 2026-01-12T08:30 --k 10
    """
    from cascade.api.gateway import RecommendationResponse

    body: dict[str, Any] = {
        "user_id": user,
        "k": k,
        "device_type": device,
        "timestamp": None if at is None else utc_seconds(at),
        "diversity": diversity,
        "temperature": temperature,
        "seed": seed,
    }
    answer = _ask(body)
    if as_json:
        typer.echo(answer)
    else:
        show(RecommendationResponse.model_validate_json(answer), console())


def utc_seconds(text: str) -> int:
    """Seconds since 1970 of an ISO 8601 time. Raises CommandError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at {text!r} is not a time; write it like 2026-01-12T08:30") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _ask(body: dict[str, Any]) -> str:
    import httpx

    from cascade.local.system import gateway_url

    settings = load_settings()
    url = gateway_url(settings)
    try:
        # Proxies of the environment are for the world outside, not for one's own machine.
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False, headers=key_headers(settings)) as client:
            response = client.post("/v1/recommendations", json=body)
    except httpx.TransportError as error:
        raise CommandError(f"the gateway at {url} does not answer; start it with `cascade up`") from error
    if response.is_error:
        raise CommandError(f"the gateway answered {response.status_code}: {problem_sentence(response.text)}")
    return response.text


def problem_sentence(text: str) -> str:
    """What a problem details body says, in one sentence; the text itself where it is none."""
    import json

    try:
        problem = json.loads(text)
        sentence = str(problem.get("detail") or problem["title"])
        faults = [f"{fault['field']}: {fault['message']}" for fault in problem.get("errors") or []]
    except (ValueError, KeyError, TypeError, AttributeError):
        return text[:300]
    return " ".join([sentence, *faults])


def show(answer: RecommendationResponse, to: Console) -> None:
    """Print the list, what was degraded, and where the time went."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"For {answer.user_id}"), title_justify="left", expand=True)
    table.add_column("#", justify="right")
    table.add_column("item", ratio=3, overflow="fold")
    table.add_column("category", ratio=2)
    table.add_column("price", justify="right")
    table.add_column("click", justify="right")
    for rank, item in enumerate(answer.items, start=1):
        table.add_row(
            str(rank),
            Text.assemble(item.title, "\n", (item.item_id, "dim")),
            Text(f"{item.category_l1} / {item.category_l2}"),
            "" if item.price is None else f"{item.price:.2f}",
            "–" if item.score is None else f"{item.score:.1%}",
        )
    to.print(table)
    if answer.degraded:
        to.print(f"[yellow]Answered without: {', '.join(answer.degraded)}[/yellow]")
    times = answer.timings.model_dump()
    to.print(
        " · ".join(f"{name.removesuffix('_ms')} {value:.1f} ms" for name, value in times.items()),
        highlight=False,
    )
    for stage, version in answer.versions.items():
        to.print(f"{stage} {version.version} ({version.track})", highlight=False)
