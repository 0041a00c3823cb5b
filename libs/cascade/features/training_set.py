"""The training set: encoded rows as flat arrays, memory-mapped, ready to be gathered in batches."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.features.columns import require_columns, seconds_of_column
from cascade.features.context import ContextTransform
from cascade.features.errors import FeatureFileMissingError, FeatureInputError
from cascade.features.files import FORMAT, read_array, read_json, write_array, write_json
from cascade.features.history import ARRAYS, Histories
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.masking import Masking, devices_to_mask, hide_devices, hide_users, users_to_mask
from cascade.features.spec import (
    CONTEXT_CATEGORICAL,
    CONTEXT_CONTINUOUS,
    USER_CATEGORICAL,
    USER_CONTINUOUS,
    Encoded,
    Rows,
)
from cascade.features.user import UserTransform

KIND = "training-set"
DESCRIPTION = "training_set.json"
BATCH_ROWS = 1 << 19

_COLUMNS = ["user_id", "item_id", "timestamp", "device_type", "age", "gender", "top_category"]
# name -> (dtype, columns); None: one value a row
_LAYOUT: dict[str, tuple[type[np.generic], int | None]] = {
    "user_categorical": (np.int32, len(USER_CATEGORICAL)),
    "user_continuous": (np.float32, len(USER_CONTINUOUS)),
    "context_categorical": (np.int32, len(CONTEXT_CATEGORICAL)),
    "context_continuous": (np.float32, len(CONTEXT_CONTINUOUS)),
    "item_position": (np.int32, None),
    "timestamp": (np.int64, None),
}
_WEIGHT: dict[str, tuple[type[np.generic], int | None]] = {"weight": (np.float32, None)}
_EVENT_TYPE = "event_type"

ClickWeights = Mapping[str, float]
"""Event type → what one interaction of it counts for, above 0."""

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """R rows, each an interaction: who, in which context, with which item, when.

    user: Encoded [R], context: Encoded [R]
    item_position: int32 [R], into the item table
    timestamp: int64 [R], UTC seconds
    dropped_rows: rows left out because the item table does not know their item
    histories: what each row's user did before it [R]; None where the set was made without
    weight: float32 [R], what the row counts for in the ranker's training; None: all rows alike
    """

    user: Encoded
    context: Encoded
    item_position: Rows
    timestamp: NDArray[np.int64]
    dropped_rows: int = 0
    histories: Histories | None = None
    weight: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.user), len(self.context), len(self.item_position), len(self.timestamp)}
        lengths |= {len(part) for part in (self.histories, self.weight) if part is not None}
        if len(lengths) != 1:
            raise FeatureInputError(
                f"user, context, item, timestamp, history and weight columns differ in length: {sorted(lengths)}"
            )

    @classmethod
    def build(
        cls,
        rows: Path,
        user: UserTransform,
        context: ContextTransform,
        items: ItemTable,
        *,
        histories: Histories | None = None,
        masking: Masking | None = None,
        weights: ClickWeights | None = None,
        folder: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainingSet:
        """Encode the rows that `training_rows` wrote, batch by batch.

        `histories` are those of all rows of the file (`histories_of_rows`), for models that read them.
        With `folder` the arrays are written there and come back memory-mapped, so that memory holds one batch
        and not the set; without, they are held. `masking` hides users and devices (cold start); the rows' order
        and number do not change by it. `weights` tell what rows of an event type count for; others count 1.
        Raises FeatureFileMissingError, FeatureInputError.
        """
        if not rows.is_file():
            raise FeatureFileMissingError(rows, "no such file; write it with training_rows first")
        with pq.ParquetFile(rows) as file:
            columns = [*_COLUMNS, _EVENT_TYPE] if weights else _COLUMNS
            require_columns(file.schema_arrow.empty_table(), columns, "TrainingSet.build")
            positions = _positions(file, items)
            known = positions != UNKNOWN
            count = int(known.sum())
            if histories is not None:
                if len(histories) != len(known):
                    raise FeatureInputError(
                        f"there are {len(histories)} histories for {len(known)} rows; give one each"
                    )
                histories = histories.take(known)
            with _Arrays(folder, count, _LAYOUT | _WEIGHT if weights else _LAYOUT) as arrays:
                arrays.fill("item_position", 0, positions[known])
                # Drawn for all rows at once: the same rows are hidden whatever the batch size.
                hidden_users = users_to_mask(count, masking.user_share, masking.seed) if masking else None
                hidden_devices = devices_to_mask(count, masking.device_share, masking.seed) if masking else None
                read = done = 0
                for batch in file.iter_batches(BATCH_ROWS, columns=[c for c in columns if c != "item_id"]):
                    kept = known[read : read + len(batch)]
                    read += len(batch)
                    part = batch if kept.all() else batch.filter(kept)
                    at = slice(done, done + len(part))
                    done += len(part)
                    who, where = user.transform(part), context.transform(part)
                    if hidden_users is not None and hidden_devices is not None:
                        who = hide_users(who, hidden_users[at])
                        where = hide_devices(where, hidden_devices[at])
                    arrays.fill("user_categorical", at.start, who.categorical)
                    arrays.fill("user_continuous", at.start, who.continuous)
                    arrays.fill("context_categorical", at.start, where.categorical)
                    arrays.fill("context_continuous", at.start, where.continuous)
                    arrays.fill("timestamp", at.start, seconds_of_column(part, "timestamp"))
                    if weights:
                        arrays.fill("weight", at.start, _weights(part.column(_EVENT_TYPE), weights))
                    if progress:
                        progress(done, count)
                arrays.commit(dropped_rows=len(positions) - count, histories=histories)
            return cls.load(folder) if folder else _assembled(arrays.held, len(positions) - count, histories)

    def __len__(self) -> int:
        return len(self.item_position)

    def take(self, rows: NDArray[np.integer] | slice) -> TrainingSet:
        """The given rows, in the given order."""
        return TrainingSet(
            self.user.take(rows),
            self.context.take(rows),
            self.item_position[rows],
            self.timestamp[rows],
            histories=None if self.histories is None else self.histories.take(rows),
            weight=None if self.weight is None else self.weight[rows],
        )

    def masked(self, masking: Masking) -> TrainingSet:
        """A copy with users and devices hidden: what `build` gives with the same masking."""
        return TrainingSet(
            hide_users(self.user, users_to_mask(len(self), masking.user_share, masking.seed)),
            hide_devices(self.context, devices_to_mask(len(self), masking.device_share, masking.seed)),
            self.item_position,
            self.timestamp,
            self.dropped_rows,
            self.histories,
            self.weight,
        )

    def save(self, folder: Path) -> None:
        """Write one .npy an array, and training_set.json last."""
        arrays: dict[str, NDArray[Any]] = {
            "user_categorical": self.user.categorical,
            "user_continuous": self.user.continuous,
            "context_categorical": self.context.categorical,
            "context_continuous": self.context.continuous,
            "item_position": self.item_position,
            "timestamp": self.timestamp,
        }
        if self.weight is not None:
            arrays["weight"] = self.weight
        for name, array in arrays.items():
            write_array(folder / f"{name}.npy", array)
        _write_histories(folder, self.histories)
        _describe(folder, len(self), self.dropped_rows, self.histories, self.weight is not None)

    @classmethod
    def load(cls, folder: Path, *, mmap: bool = True) -> TrainingSet:
        """Read what `save` or `build` wrote; memory-mapped, read-only, by default.

        Raises FeatureFileError's subclasses: a part is missing, of another shape, or of a newer format.
        """
        content = read_json(folder / DESCRIPTION, KIND)
        count = int(content["rows"])
        layout = _LAYOUT | _WEIGHT if content.get("weighed") else _LAYOUT
        arrays = {
            name: read_array(folder / f"{name}.npy", dtype, (count,) if width is None else (count, width), mmap=mmap)
            for name, (dtype, width) in layout.items()
        }
        events = content.get("events")  # none: without histories, or of a release that had none
        histories = None if events is None else _read_histories(folder, count, int(events), mmap)
        return _assembled(arrays, int(content["dropped_rows"]), histories)


class _Arrays:
    """The set's arrays while they are filled: held in memory, or in .npy files of a folder in the making."""

    def __init__(
        self, folder: Path | None, count: int, layout: Mapping[str, tuple[type[np.generic], int | None]]
    ) -> None:
        self._folder = folder
        self._count = count
        self._beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part") if folder else None
        if self._beside:
            self._beside.mkdir(parents=True)
        self.held = {name: self._create(name, *described) for name, described in layout.items()}

    def _create(self, name: str, dtype: type[np.generic], width: int | None) -> NDArray[Any]:
        shape = (self._count,) if width is None else (self._count, width)
        # An empty file cannot be mapped; an empty set is saved from memory at commit.
        if self._beside is None or self._count == 0:
            return np.empty(shape, dtype)
        path = self._beside / f"{name}.npy"
        mapped: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
        return mapped

    def fill(self, name: str, start: int, values: NDArray[Any]) -> None:
        self.held[name][start : start + len(values)] = values

    def commit(self, dropped_rows: int, histories: Histories | None) -> None:
        """Move the finished folder into place; without a folder there is nothing to do."""
        if self._folder is None or self._beside is None:
            return
        for name, array in self.held.items():
            if isinstance(array, np.memmap):
                array.flush()
            else:
                write_array(self._beside / f"{name}.npy", array)
        _write_histories(self._beside, histories)
        _describe(self._beside, self._count, dropped_rows, histories, "weight" in self.held)
        # A folder cannot be renamed over another: the old one steps aside first.
        old = self._beside.with_suffix(".old")
        if self._folder.exists():
            os.replace(self._folder, old)
        os.replace(self._beside, self._folder)
        if old.exists():
            shutil.rmtree(old)

    def __enter__(self) -> _Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        if self._beside and self._beside.exists():
            shutil.rmtree(self._beside)


def _positions(file: pq.ParquetFile, items: ItemTable) -> Rows:
    """Every row's place in the item table, -1 where it has none: int32 [R]."""
    parts = [items.positions(batch.column("item_id")) for batch in file.iter_batches(BATCH_ROWS, columns=["item_id"])]
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def _weights(event_type: pa.Array, weights: ClickWeights) -> NDArray[np.float32]:
    """float32 [R] by the rows' event types."""
    kinds = event_type.dictionary_encode()
    of_kind = np.array([weights.get(kind, 1.0) for kind in kinds.dictionary.to_pylist()] + [1.0], np.float32)
    found: NDArray[np.float32] = of_kind[np.asarray(kinds.indices.fill_null(len(of_kind) - 1), np.int64)]
    return found


def _describe(folder: Path, rows: int, dropped_rows: int, histories: Histories | None, weighed: bool) -> None:
    content = {"kind": KIND, "format": FORMAT, "rows": rows, "dropped_rows": dropped_rows}
    if histories is not None:
        content["events"] = len(histories.event_item)
    if weighed:
        content["weighed"] = True
    write_json(folder / DESCRIPTION, content)


def _write_histories(folder: Path, histories: Histories | None) -> None:
    for name, array in ({} if histories is None else histories.arrays).items():
        write_array(folder / f"{name}.npy", array)


def _read_histories(folder: Path, rows: int, events: int, mmap: bool) -> Histories:
    return Histories(
        **{
            name: read_array(
                folder / f"{name}.npy", dtype, (rows if name.startswith("history") else events,), mmap=mmap
            )
            for name, dtype in ARRAYS.items()
        }
    )


def _assembled(arrays: dict[str, NDArray[Any]], dropped_rows: int, histories: Histories | None) -> TrainingSet:
    return TrainingSet(
        Encoded(arrays["user_categorical"], arrays["user_continuous"]),
        Encoded(arrays["context_categorical"], arrays["context_continuous"]),
        arrays["item_position"],
        arrays["timestamp"],
        dropped_rows,
        histories,
        arrays.get("weight"),
    )
