"""The command line, as a table of contents."""

from __future__ import annotations

import typer

from cascade.cli import capacity, demo, evaluate, recommend, system
from cascade.cli.groups import SentenceGroup, lazy_group

app = typer.Typer(
    cls=SentenceGroup,
    help="Cascade: a recommender for online shops, from a shop's data to a ranked list.",
    epilog="Begin with: cascade up",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(system.up)
app.command()(system.down)
app.command()(system.status)
app.command()(system.stop)
app.command()(system.start)
app.command()(recommend.recommend)
app.command()(demo.demo)
app.command()(evaluate.evaluate)
app.command()(evaluate.tune)
app.command()(capacity.capacity)
app.add_typer(
    typer.Typer(
        cls=lazy_group("cascade.cli.data"),
        help="Dataset folders: generate, import, validate. Example: cascade data validate ./my-shop",
        no_args_is_help=True,
    ),
    name="data",
)
app.add_typer(
    typer.Typer(
        cls=lazy_group("cascade.cli.models"),
        help="Model versions: list, show, promote, roll back, retain. Example: cascade models rollback ranker",
        no_args_is_help=True,
    ),
    name="models",
)
app.add_typer(
    typer.Typer(
        cls=lazy_group("cascade.cli.users"),
        help="Visitors: forget one everywhere, show the receipt. Example: cascade users forget u-17",
        no_args_is_help=True,
    ),
    name="users",
)
app.add_typer(
    typer.Typer(
        cls=lazy_group("cascade.cli.keys"),
        help="API keys of the gateway: create, list, revoke. Example: cascade keys create backend --scope recommend",
        no_args_is_help=True,
    ),
    name="keys",
)
app.add_typer(
    typer.Typer(
        cls=lazy_group("cascade.cli.canary"),
        help="Canary of a model: start, status, judge, promote, abort. Example: cascade canary start ranker",
        no_args_is_help=True,
    ),
    name="canary",
)
