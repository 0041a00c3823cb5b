"""The context transform: device and moment to a device row and cyclic hour and weekday."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.features.columns import require_columns, seconds_of_column
from cascade.features.fitted import load_fitted, save_fitted, version_of
from cascade.features.spec import DEVICES, Encoded, Floats, Rows
from cascade.features.vocabulary import Vocabulary

KIND = "context-transform"
COLUMNS = ("device_type", "timestamp")

_HOUR_S = 3600
_HOURS = 24
_WEEK_H = 7 * _HOURS
_MONDAY_H = 3 * _HOURS
"""1 January 1970 was a Thursday: three days after a Monday."""


def _cycle(length: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.arange(length) / length
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)  # [length, 2]


# A week has 168 hours: one small table serves every moment, exactly and without a sine at request time.
# [168, 4]: hour_sin, hour_cos, weekday_sin, weekday_cos
_WEEK: Floats = np.concatenate([np.tile(_cycle(_HOURS), (7, 1)), np.repeat(_cycle(7), _HOURS, axis=0)], axis=1).astype(
    np.float32
)


@dataclass(frozen=True, eq=False)
class ContextTransform:
    """Context columns to `Encoded`.

    categorical [N, 1]: device_type
    continuous [N, 4]: hour_sin, hour_cos, weekday_sin, weekday_cos
    Hours and weekdays are UTC, the hour whole; weekday 0 is Monday.
    """

    devices: Vocabulary

    @classmethod
    def fit(cls, table: pa.Table) -> ContextTransform:
        """Fit on training's device_type column; one it never saw shares the OOV row."""
        require_columns(table, ("device_type",), "ContextTransform.fit")
        seen = Vocabulary.build(table.column("device_type"))
        return cls(devices=Vocabulary.build([device for device in DEVICES if device in seen]))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Embedding rows of each categorical column, OOV included."""
        return (self.devices.cardinality,)

    @cached_property
    def version(self) -> str:
        """sha256 hex of the fitted content."""
        return version_of(KIND, {"device_type": self.devices}, {})

    def transform(self, table: pa.Table | pa.RecordBatch) -> Encoded:
        """Encode a table with the columns device_type, timestamp (UTC seconds)."""
        require_columns(table, COLUMNS, "ContextTransform.transform")
        return _assemble(self.devices.rows(table.column("device_type")), seconds_of_column(table, "timestamp"))

    def encode(self, devices: Sequence[str | None], timestamps: Sequence[int]) -> Encoded:
        """Encode one or a few requests; None is an unknown device. The same numbers as `transform` gives."""
        return _assemble(self.devices.rows(devices), np.array(timestamps, np.int64))

    def save(self, folder: Path) -> None:
        """Write transform.json and the device vocabulary."""
        save_fitted(folder, KIND, {"device_type": self.devices}, {})

    @classmethod
    def load(cls, folder: Path) -> ContextTransform:
        """Read what `save` wrote; raises FeatureFileError's subclasses."""
        words, _ = load_fitted(folder, KIND, ("device_type",), ())
        return cls(words["device_type"])


def _assemble(devices: Rows, seconds: NDArray[np.int64]) -> Encoded:
    return Encoded(devices[:, None], _WEEK[(seconds // _HOUR_S + _MONDAY_H) % _WEEK_H])
