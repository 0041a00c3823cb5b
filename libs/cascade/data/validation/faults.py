"""What is wrong with a dataset folder, gathered while it is read piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SHOWN_ROWS = 5
_SHOWN_CHARACTERS = 60
OUTSIDE = "it is a link out of the dataset folder; bring the file itself"


def is_outside(path: Path, root: Path) -> bool:
    """Whether a path leaves the folder by a link, or leads nowhere by one."""
    try:
        return not path.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return True


@dataclass(frozen=True)
class Fault:
    """One rule broken in one column of one file.

    file: path below the dataset folder; column: None where the fault is the file's or the folder's
    rule: short fixed name (docs/data-contract.md lists them)
    rows: the first offending rows, counted from 0 within the file, with their values; or names, for folders
    count: how many there are in all
    message: what the rule wants, and the way out
    """

    file: str
    column: str | None
    rule: str
    rows: tuple[str, ...]
    count: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}, {self.column}" if self.column else self.file
        shown = ", ".join(self.rows)
        more = f" and {self.count - len(self.rows):,} more" if self.count > len(self.rows) else ""
        found = f" ({shown}{more})" if shown else ""
        return f"{place}: {self.rule}: {self.message}{found}"


class Findings:
    """Collects faults; those of one file, column and rule become one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None, str], Fault] = {}

    def add(
        self,
        file: str,
        column: str | None,
        rule: str,
        message: str,
        rows: Sequence[str] = (),
        count: int = 1,
    ) -> None:
        key = (file, column, rule)
        before = self._found.get(key)
        if before is None:
            self._found[key] = Fault(file, column, rule, tuple(rows[:SHOWN_ROWS]), count, message)
        else:
            shown = (*before.rows, *rows)[:SHOWN_ROWS]
            self._found[key] = Fault(file, column, rule, shown, before.count + count, before.message)

    def add_rows(
        self, file: str, column: str, rule: str, message: str, bad: NDArray[np.bool_], values: pa.Array, offset: int = 0
    ) -> None:
        """One fault for the rows where `bad` [R] holds; `offset` is the number of the first row in its file."""
        places = np.flatnonzero(bad)
        if len(places):
            rows = [f"row {place + offset}: {_shown(values[place])}" for place in places[:SHOWN_ROWS]]
            self.add(file, column, rule, message, rows, len(places))

    def of_file(self, file: str) -> bool:
        """Whether this file has a fault already."""
        return any(name == file for name, _, _ in self._found)

    def faults(self) -> list[Fault]:
        """In the order of discovery."""
        return list(self._found.values())


def _shown(value: pa.Scalar) -> str:
    try:
        text = repr(value.as_py())
    except UnicodeDecodeError:
        text = repr(value.cast(pa.binary()).as_py())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
