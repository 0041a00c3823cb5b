"""The `cascade` command. Each command imports what it needs when it runs, so that `--help` answers at once."""

try:
    from cascade.cli.main import app
except ModuleNotFoundError as error:
    if error.name != "typer":
        raise
    # an install of the client alone has the script as well
    raise SystemExit("the command needs more than the client: pip install 'cascade-recommender[core]'") from None

__all__ = ["app"]
