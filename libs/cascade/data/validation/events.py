"""Rules for the tables kept by day: interactions and impressions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.data.contract import (
    IMPRESSIONS,
    IMPRESSIONS_CONTRACT,
    INTERACTIONS,
    INTERACTIONS_CONTRACT,
    TableContract,
    data_files,
    day_of_folder,
)
from cascade.data.files import Progress
from cascade.data.validation.columns import Columns, check_ids, check_range, read_batches, truth
from cascade.data.validation.faults import OUTSIDE, Findings, is_outside
from cascade.features.spec import DEVICES

_EPOCH = date(1970, 1, 1)
_DAY_S = 86_400

RowCheck = Callable[[str, Columns, int], None]


def check_interactions(
    root: Path, item_ids: pa.Array | None, now: int, findings: Findings, progress: Progress, *, gaps: bool = False
) -> None:
    """item_ids: the catalog's; None if there is none that can be read, then items are not looked up.

    gaps: whether days without interactions may lie between the first and the last
    """
    folder = root / INTERACTIONS
    if not folder.is_dir():
        findings.add(INTERACTIONS, None, "missing-folder", "a dataset has interactions/date=YYYY-MM-DD/*.parquet")
        return
    days = _day_folders(root, folder, findings)
    if not days:
        findings.add(INTERACTIONS, None, "no-day", "it has no folder date=YYYY-MM-DD with interactions")
        return
    if not gaps:
        _check_gaps(sorted(days), findings)

    def check(name: str, columns: Columns, offset: int) -> None:
        if "event_type" in columns:
            kinds = columns["event_type"]
            blank = truth(pc.equal(pc.utf8_length(kinds), 0))
            findings.add_rows(name, "event_type", "empty", "an event has a type", blank, kinds, offset)

    _check_days(root, days, INTERACTIONS_CONTRACT, item_ids, now, check, findings, progress)


def check_impressions(root: Path, item_ids: pa.Array | None, now: int, findings: Findings, progress: Progress) -> None:
    """Impressions are optional; where there are some, they keep the same rules and their own."""
    folder = root / IMPRESSIONS
    if not folder.is_dir():
        return

    def check(name: str, columns: Columns, offset: int) -> None:
        check_range(name, columns, "position", 0, np.inf, findings, offset)
        check_range(name, columns, "propensity", 0, 1, findings, offset)

    days = _day_folders(root, folder, findings)
    _check_days(root, days, IMPRESSIONS_CONTRACT, item_ids, now, check, findings, progress)


def _day_folders(root: Path, folder: Path, findings: Findings) -> dict[date, Path]:
    days = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")):
            continue
        day = day_of_folder(entry.name)
        if entry.is_dir() and day is not None:
            if not _holds_live_traffic_alone(entry):
                days[day] = entry
        elif entry.is_dir() or entry.suffix == ".parquet":
            message = "only folders date=YYYY-MM-DD are read; move it into one"
            findings.add(folder.relative_to(root).as_posix(), None, "folder-name", message, [repr(entry.name)])
    return days


def _holds_live_traffic_alone(folder: Path) -> bool:
    """Such a day may lie anywhere after the others; what Cascade wrote itself is not the shop's to answer for."""
    return bool(data_files(folder)) and not data_files(folder, base_only=True)


def _check_gaps(days: list[date], findings: Findings) -> None:
    span = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    absent = sorted(set(span) - set(days))
    if absent:
        message = f"days follow one another from {days[0]} to {days[-1]}; bring the absent ones, or start later"
        findings.add(INTERACTIONS, None, "day-gap", message, [day.isoformat() for day in absent[:5]], len(absent))


def _check_days(
    root: Path,
    days: dict[date, Path],
    contract: TableContract,
    item_ids: pa.Array | None,
    now: int,
    check: RowCheck,
    findings: Findings,
    progress: Progress,
) -> None:
    for number, (day, folder) in enumerate(sorted(days.items())):
        label = folder.relative_to(root).as_posix()
        rows = 0
        broken = False
        for path in data_files(folder, base_only=True):
            name = path.relative_to(root).as_posix()
            if is_outside(path, root):
                findings.add(name, None, "outside-folder", OUTSIDE)
                broken = True
                continue
            for offset, columns in read_batches(path, name, contract, findings):
                check_ids(name, columns, offset, findings)
                _check_moment(name, columns, offset, day, now, findings)
                _check_device(name, columns, offset, findings)
                _check_items(name, columns, offset, item_ids, findings)
                check(name, columns, offset)
            count = _row_count(path)
            broken |= count is None
            rows += count or 0
        if not rows and not broken:
            findings.add(label, None, "empty-day", "a day's folder has rows; remove it or fill it")
        progress("checking " + folder.parent.name, number + 1, len(days))


def _row_count(path: Path) -> int | None:
    """None for a file that cannot be read, which is reported where it is read."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return None


def _check_moment(name: str, columns: Columns, offset: int, day: date, now: int, findings: Findings) -> None:
    if "timestamp" not in columns:
        return
    stamps = columns["timestamp"]
    start = (day - _EPOCH).days * _DAY_S
    seconds = pc.fill_null(stamps, start).to_numpy(zero_copy_only=False)
    other = (seconds < start) | (seconds >= start + _DAY_S)
    units = {"milliseconds": 1000, "microseconds": 10**6, "nanoseconds": 10**9}
    for unit, factor in units.items():
        if other.any() and ((seconds[other] // factor >= start) & (seconds[other] // factor < start + _DAY_S)).any():
            message = f"timestamps are UTC seconds; these look like {unit}, divide them by {factor}"
            findings.add_rows(name, "timestamp", "wrong-unit", message, other, stamps, offset)
            return
    message = f"timestamps lie on the folder's day, {start} to {start + _DAY_S - 1} in UTC seconds"
    findings.add_rows(name, "timestamp", "other-day", message, other, stamps, offset)
    future = ~other & (seconds > now)
    findings.add_rows(name, "timestamp", "in-the-future", "nothing has happened yet", future, stamps, offset)


def _check_device(name: str, columns: Columns, offset: int, findings: Findings) -> None:
    if "device_type" in columns:
        devices = columns["device_type"]
        known = pc.is_in(devices, value_set=pa.array([*DEVICES, None], pa.string()))
        message = f"devices are {', '.join(DEVICES)} or null"
        findings.add_rows(name, "device_type", "unknown-device", message, truth(pc.invert(known)), devices, offset)


def _check_items(name: str, columns: Columns, offset: int, item_ids: pa.Array | None, findings: Findings) -> None:
    if item_ids is None or "item_id" not in columns:
        return
    items = columns["item_id"]
    stranger = truth(pc.and_(pc.is_valid(items), pc.invert(pc.is_in(items, value_set=item_ids))))
    message = "every item stands in items.parquet; add it there or drop the rows"
    findings.add_rows(name, "item_id", "unknown-item", message, stranger, items, offset)
