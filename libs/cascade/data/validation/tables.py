"""Rules for users.parquet and items.parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade.data.contract import ITEMS, ITEMS_CONTRACT, USERS, USERS_CONTRACT, TableContract
from cascade.data.validation.columns import Columns, check_ids, check_range, read_batches, truth
from cascade.data.validation.faults import OUTSIDE, SHOWN_ROWS, Findings, is_outside

MAX_AGE = 130


def check_users(root: Path, findings: Findings) -> None:
    """Where there is no users.parquet, the users of the interactions are the shop's."""
    users = _whole(root, USERS, USERS_CONTRACT, findings)
    if users is not None:
        _unique(USERS, "user_id", users, findings)
        check_range(USERS, users, "age", 0, MAX_AGE, findings)


def check_items(root: Path, findings: Findings) -> Columns | None:
    """The items' sound columns, for the checks that need them; None if there are none. Where there is no items.parquet,
    the items of the interactions are the catalog."""
    items = _whole(root, ITEMS, ITEMS_CONTRACT, findings)
    if items is None:
        return None
    _unique(ITEMS, "item_id", items, findings)
    check_range(ITEMS, items, "price", 0, np.inf, findings, rule="negative")
    if "category_l1" in items:
        categories = items["category_l1"]
        blank = truth(pc.equal(pc.utf8_length(categories), 0))
        message = "every item has a category, or the table has no such column"
        findings.add_rows(ITEMS, "category_l1", "empty", message, blank, categories)
    return items


def _whole(root: Path, name: str, contract: TableContract, findings: Findings) -> Columns | None:
    path = root / name
    if not path.exists() and not path.is_symlink():
        return None
    if is_outside(path, root):
        findings.add(name, None, "outside-folder", OUTSIDE)
        return None
    parts = []
    for offset, columns in read_batches(path, name, contract, findings):
        check_ids(name, columns, offset, findings)
        parts.append(columns)
    if not parts or not any(len(next(iter(part.values()), ())) for part in parts):
        if not findings.of_file(name):
            findings.add(name, None, "empty-table", "it has no rows; a shop has at least one")
        return None
    common = [column for column in parts[0] if all(column in part for part in parts)]
    return {column: pa.concat_arrays([part[column] for part in parts]) for column in common}


def _unique(name: str, column: str, columns: Columns, findings: Findings) -> None:
    if column not in columns:
        return
    ids = columns[column]
    counts = pc.value_counts(ids.drop_null())
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(repeated):
        return
    surplus = int(pc.sum(pc.subtract(counts.field("counts"), 1)).as_py())
    first: dict[str, list[int]] = {str(value): [] for value in repeated[:SHOWN_ROWS].to_pylist()}
    shown = truth(pc.is_in(ids, value_set=repeated[:SHOWN_ROWS]))
    for row in np.flatnonzero(shown):
        first[ids[int(row)].as_py()].append(int(row))
    rows = [f"{value!r} in rows {', '.join(map(str, places[:SHOWN_ROWS]))}" for value, places in first.items()]
    findings.add(name, column, "duplicate", "an id stands in one row only", rows, surplus)
