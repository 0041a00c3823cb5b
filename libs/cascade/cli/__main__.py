"""`python -m cascade.cli`: the `cascade` command, for when its script is not on the PATH."""

from cascade.cli.main import app

if __name__ == "__main__":
    app(prog_name="cascade")
