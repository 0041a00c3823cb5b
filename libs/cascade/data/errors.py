"""Errors of a shop's data.

DataError
├── DatasetNotFound        the folder, or a table every dataset needs, is not there
├── DatasetInvalid         the folder breaks the contract; carries every fault
├── UnknownDay             a day was asked for that the dataset or the shop does not have
├── ShopConfigInvalid      a generator configuration that no shop can be made from
├── TruthUnavailable       the folder holds no truth/ (it was not generated), or an unreadable one
└── SourceUnreadable       an importer was given a folder it cannot read
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.errors import CascadeError

if TYPE_CHECKING:
    from cascade.data.validation.faults import Fault

_SHOWN = 50


class DataError(CascadeError):
    """Base of every error about a shop's data."""


class DatasetNotFound(DataError):
    """The folder, or a table that every dataset has, does not exist."""


class DatasetInvalid(DataError):
    """The folder breaks the data contract; `faults` holds every fault found."""

    def __init__(self, root: object, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [f"  {fault}" for fault in self.faults[:_SHOWN]]
        if len(self.faults) > _SHOWN:
            lines.append(f"  and {len(self.faults) - _SHOWN} more")
        plural = "fault" if len(self.faults) == 1 else "faults"
        super().__init__(
            f"{root} breaks the data contract ({len(self.faults)} {plural}); nothing was read from it. "
            "Mend these and validate again:\n" + "\n".join(lines)
        )


class UnknownDay(DataError):
    """A day that the dataset or the shop does not have."""


class ShopConfigInvalid(DataError, ValueError):
    """A configuration that no shop can be generated from."""


class TruthUnavailable(DataError):
    """The folder holds no truth/, so there is no oracle for it."""


class SourceUnreadable(DataError):
    """An importer was given a folder or a file it cannot read."""
