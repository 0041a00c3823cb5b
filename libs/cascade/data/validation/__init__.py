"""Checks a dataset folder against the data contract, and names every fault."""

from __future__ import annotations

import time
from pathlib import Path

from cascade.data.contract import Dataset
from cascade.data.errors import DatasetInvalid
from cascade.data.files import Progress
from cascade.data.validation.events import check_impressions, check_interactions
from cascade.data.validation.faults import Fault, Findings
from cascade.data.validation.images import check_images
from cascade.data.validation.tables import check_items, check_users

__all__ = ["Fault", "require_valid", "validate"]


def validate(
    root: Path | str, *, now: int | None = None, progress: Progress | None = None, gaps: bool = False
) -> list[Fault]:
    """Every fault of the folder, in the order users, items, pictures, interactions, impressions; [] if it is sound.

    now: UTC seconds after which a timestamp lies in the future; the clock's by default
    gaps: days may be missing between the first and the last; the daily build needs each, an evaluation does not
    """
    root = Path(root)
    findings = Findings()
    if not root.is_dir():
        findings.add(str(root), None, "missing-folder", "there is no such folder")
        return findings.faults()
    report = progress or _no_progress
    moment = int(time.time()) if now is None else now
    check_users(root, findings)
    items = check_items(root, findings)
    if items is not None and "image" in items:
        check_images(root, items["image"], findings, report)
    item_ids = None if items is None else items.get("item_id")
    check_interactions(root, item_ids, moment, findings, report, gaps=gaps)
    check_impressions(root, item_ids, moment, findings, report)
    return findings.faults()


def require_valid(
    root: Path | str, *, now: int | None = None, progress: Progress | None = None, gaps: bool = False
) -> Dataset:
    """The folder as a Dataset; raises DatasetInvalid with every fault if it breaks the contract."""
    faults = validate(root, now=now, progress=progress, gaps=gaps)
    if faults:
        raise DatasetInvalid(root, faults)
    return Dataset(root)


def _no_progress(what: str, done: int, of: int) -> None:
    """The progress of somebody who does not want to know."""
