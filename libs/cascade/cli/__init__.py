"""The `cascade` command. Each command imports what it needs when it runs, so that `--help` answers at once."""

from cascade.cli.main import app

__all__ = ["app"]
