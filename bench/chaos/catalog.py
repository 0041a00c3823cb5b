"""Every row by name: those under load, and those that drive something else."""

from __future__ import annotations

from dataclasses import dataclass

from bench.chaos.rows import ROWS


@dataclass(frozen=True)
class OtherRow:
    """A row without visitors. module: of this package, with `run(result, folder)`."""

    name: str
    title: str
    must: str
    module: str


OTHERS: dict[str, OtherRow] = {
    row.name: row
    for row in (
        OtherRow(
            "dagster-kill",
            "Dagster run killed in each asset",
            "re-run completes from what is whole; nothing half-written is read",
            "builds",
        ),
        OtherRow(
            "bad-input",
            "Requests that no sane client sends, to every service",
            "≥ 10,000 cases: no 5xx, no violation of the schema",
            "bad_input",
        ),
    )
}
NAMES = (*ROWS, *OTHERS)
