"""`cascade evaluate`: how good are the models that serve?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.common import CommandError, console, load_settings

if TYPE_CHECKING:
    from rich import box
    from rich.table import Table

    from cascade.training.report import METRICS

    # Narrow throughout: ten columns in a terminal of 80.
    table = Table(title="Evaluation", title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in METRICS:
        heading = name.replace("calibration", "calib.").replace("@", "\n@").replace("_", "\n")
        table.add_column(heading, justify="right", no_wrap=True)
    shown_slice = None
    for row in report.rows:
        if row.slice != shown_slice:
            table.add_section()
            table.add_row(f"[bold]{row.slice}[/bold] ({row.rows:,})")
            shown_slice = row.slice
        table.add_row(row.model, *(f"{row.metrics[name]:.3f}" if name in row.metrics else "" for name in METRICS))
    return table


def write_report(content: dict[str, object], path: Path) -> None:
    """Write JSON whole or not at all. Raises CommandError where the folder is not there."""
    import json

    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(json.dumps(content, indent=2))
        beside.replace(path)
    except OSError as error:
        raise CommandError(f"the report cannot be written to {path}: {error.strerror}") from error
