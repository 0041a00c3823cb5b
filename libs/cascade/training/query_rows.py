"""The query tower's side of rows: what a training step shows of a user, and the vectors of rows to be judged.

Shapes: B rows of a batch, L events of the longest history in it, P tokens (pairs of item and event type), I items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade.features.history import Histories, histories_of_rows
from cascade.features.source import InteractionSource
from cascade.features.spec import (
    CONTEXT_CATEGORICAL,
    CONTEXT_CONTINUOUS,
    EVENT_TYPES,
    HISTORY_LENGTH,
    ITEM_CONTINUOUS,
    OOV,
    USER_CONTINUOUS,
    Encoded,
)
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.models.history import HistoryArrays, HistoryTensors
from cascade.models.two_tower import Mode, QueryTower, TwoTowerConfig
from cascade.training.errors import TrainingInputError
from cascade.training.histories import hidden_events
from cascade.training.rows import ALL, IntArray, drop_users, unknown_user

if TYPE_CHECKING:
    from cascade.training.two_tower_training import TwoTowerTraining

Floats = NDArray[np.float32]

_DEVICE = CONTEXT_CATEGORICAL.index("device_type")
_AT_ONCE = 1024

HARDLY_MET = 0.01
"""share of rows of items their users had met lately, below which training leaves met items out"""
_MET_SAMPLE = 5000


def two_tower_config(mode: Mode, user: UserTransform, item: ItemTransform, context: ContextTransform) -> TwoTowerConfig:
    """Both towers for these transforms, the query tower reading what its mode says."""
    config = TwoTowerConfig(
        user.cardinalities,
        len(USER_CONTINUOUS),
        item.cardinalities,
        len(ITEM_CONTINUOUS),
        normalise=False,
        item_bias=True,
        own_vectors=True,
    )
    if mode != "static":
        config = replace(
            config, context_cardinalities=context.cardinalities, context_continuous=len(CONTEXT_CONTINUOUS)
        )
    if mode == "session":
        config = replace(
            config, history_length=HISTORY_LENGTH, history_event_types=len(EVENT_TYPES) + 1, history_sum=True
        )
    return config


def query_features(mode: Mode, user: Encoded, context: Encoded | None) -> Encoded:
    """The columns that a query tower of this mode takes. Raises TrainingInputError where the moment is missing."""
    if mode == "static":
        return user
    if context is None:
        raise TrainingInputError(f"a query tower of mode {mode} reads the moment of a row, and none was given")
    return user.beside(context)


@dataclass(frozen=True)
class Tokens:
    """The distinct events of a batch's histories.

    items: int64 [P] positions, types: int64 [P]; token: int64 [B, L], -1 for none; ages: int64 [B, L]
    """

    items: IntArray
    types: IntArray
    token: IntArray
    ages: IntArray

    def tensors(self, vectors: Tensor, device: torch.device) -> HistoryTensors:
        """With the tokens' vectors [P, D]."""
        return HistoryTensors(
            vectors,
            torch.from_numpy(self.types).to(device),
            torch.from_numpy(self.token).to(device),
            torch.from_numpy(self.ages).to(device),
        )


class QueryRows:
    """Training rows as a step sees them: a share of ids, users, devices, histories and events is hidden.

    So that visitors with less to go by are learned for: what is left must stand alone.
    """

    def __init__(
        self, rows: TrainingSet, config: TwoTowerConfig, training: TwoTowerTraining, device: torch.device
    ) -> None:
        if config.mode == "session" and rows.histories is None:
            raise TrainingInputError(
                "mode session reads what users did before each row, and these rows come without; make the training "
                "set with histories, or take mode context"
            )
        self._rows, self._config, self._training, self._device = rows, config, training, device
        self._unknown = unknown_user(rows.user)
        self._exclude_met = training.exclude_met
        if self._exclude_met is None:
            self._exclude_met = rows.histories is not None and share_met(rows) < HARDLY_MET

    def features(self, rows: IntArray, rng: np.random.Generator, only: slice = ALL) -> tuple[Tensor, Tensor]:
        """What the query tower takes beside histories, int [B, C] and float [B, F], some of it hidden.

        only: the rows that are wanted; random numbers are drawn for all, so that they do not depend on it.
        """
        training = self._training
        without_ids = training.user_ids_dropped(self._config)
        user = drop_users(self._rows.user.take(rows), without_ids, training.user_dropout, self._unknown, rng)
        context: Encoded | None = None
        if self._config.mode != "static":
            moment = self._rows.context.take(rows)
            categorical = moment.categorical.copy()
            categorical[rng.random(len(rows)) < training.device_dropout, _DEVICE] = OOV
            context = Encoded(categorical, moment.continuous)
        return self._tensors(query_features(self._config.mode, user, context).take(only))

    def tokens(self, rows: IntArray, rng: np.random.Generator, only: slice = ALL) -> Tokens | None:
        """The rows' histories, some of them gone, shortened to their newest events, or with holes; None: not read.

        only: as above; the distinct events are all rows'.
        """
        histories, training = self._histories(), self._training
        if histories is None:
            return None
        items, types, ages = self._padded(histories, rows)
        hidden = hidden_events(items >= 0, training.history_dropout, training.history_truncation, rng)
        if training.event_dropout:
            hidden |= rng.random(items.shape) < training.event_dropout
        tokens = _distinct(np.where(hidden, -1, items), types, ages)
        return replace(tokens, token=tokens.token[only], ages=tokens.ages[only])

    def met(self, rows: IntArray, columns: IntArray, target: IntArray, items: int) -> Tensor | None:
        """bool [B, N]: columns whose item a row's user met among the latest events, but the row's own.

        Where the seen-filter hides what was met, a model need not learn to put it last: that would work against
        recommending what is like it. None where the rows have no histories or the training says otherwise.
        columns: int64 [N] item positions; target: int64 [B] each row's own column; items: of the table.
        """
        histories = self._rows.histories
        if histories is None or not self._exclude_met:
            return None
        met, _, _ = histories.take(rows).padded(self._rows.timestamp[rows])
        distinct, of_column = np.unique(columns, return_inverse=True)
        column = np.full(items + 1, -1, np.int64)  # the last for -1, no item
        column[distinct] = np.arange(len(distinct))
        place = column[met]  # [B, L]
        row, at = np.nonzero(place >= 0)
        mask = np.zeros((len(rows), len(distinct)), bool)
        mask[row, place[row, at]] = True
        if len(distinct) < len(columns):
            mask = mask[:, of_column]
        mask[np.arange(len(rows)), target] = False
        return torch.from_numpy(mask).to(self._device)

    def judged(self, rows: IntArray) -> tuple[tuple[Tensor, Tensor], Tokens | None]:
        """The rows with nothing hidden."""
        context = None if self._config.mode == "static" else self._rows.context.take(rows)
        features = query_features(self._config.mode, self._rows.user.take(rows), context)
        histories = self._histories()
        tokens = None if histories is None else _distinct(*self._padded(histories, rows))
        return self._tensors(features), tokens

    def _histories(self) -> Histories | None:
        return self._rows.histories if self._config.mode == "session" else None

    def _padded(self, histories: Histories, rows: IntArray) -> tuple[NDArray[np.int32], NDArray[np.int32], IntArray]:
        return histories.take(rows).padded(self._rows.timestamp[rows], self._config.history_length)

    def _tensors(self, features: Encoded) -> tuple[Tensor, Tensor]:
        return (
            torch.from_numpy(features.categorical).to(self._device),
            torch.from_numpy(features.continuous).to(self._device),
        )


def query_vectors(
    tower: QueryTower,
    user: Encoded,
    context: Encoded | None,
    histories: Histories | None,
    timestamp: NDArray[np.int64],
    item_vectors: Floats | None,
) -> Floats:
    """Rows through a query tower, whatever it reads: float32 [R, D].

    histories, item_vectors: for mode session; positions in the histories are rows of item_vectors [I, D].
    timestamp: int64 [R], the rows' moments. Raises TrainingInputError where what the mode reads is missing.
    """
    features = query_features(tower.config.mode, user, context)
    if tower.config.mode != "session":
        return tower.predict(features.categorical, features.continuous)
    if histories is None or item_vectors is None:
        raise TrainingInputError("a query tower of mode session reads histories and the items' vectors; give both")
    parts = []
    for start in range(0, len(features), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        padded = histories.take(part).padded(timestamp[part], tower.config.history_length)
        some = features.take(part)
        history = HistoryArrays.gather(*padded, vectors=item_vectors)
        parts.append(tower.predict(some.categorical, some.continuous, history))
    return np.concatenate(parts) if parts else np.empty((0, tower.config.dim), np.float32)


class Queries(Protocol):
    """What of a retrieval bundle turns rows into vectors."""

    @property
    def user_transform(self) -> UserTransform: ...
    @property
    def query_tower(self) -> QueryTower: ...
    @property
    def item_ids(self) -> list[str]: ...
    @property
    def context_transform(self) -> ContextTransform | None:
        """None in mode static."""

    @property
    def item_vectors(self) -> Floats | None:
        """float32 [I, D] in the order of item_ids; None but in mode session."""


def queries_of(
    retrieval: Queries, rows: pa.Table, source: InteractionSource | None, *, unknown: bool = False
) -> Floats:
    """Rows as `training_rows` writes them through a bundle's query tower, as of their own moments: float32 [R, D].

    source: where the rows' users' earlier events are read; mode session needs it
    unknown: as if nothing were known of the users: no features, no history; their moments alone
    """
    mode, count = retrieval.query_tower.config.mode, len(rows)
    nothing: list[None] = [None] * count
    user = (
        retrieval.user_transform.encode(nothing, nothing, nothing, nothing)
        if unknown
        else retrieval.user_transform.transform(rows)
    )
    # Only what the mode reads is asked for: a bundle of mode static need not have the rest.
    where = None if mode == "static" else retrieval.context_transform
    context = None if where is None else where.transform(rows)
    if mode != "session":
        return query_vectors(retrieval.query_tower, user, context, None, np.zeros(count, np.int64), None)
    timestamp = np.asarray(rows.column("timestamp"), np.int64)
    histories: Histories | None = None
    if unknown:
        histories = Histories.empty(count)
    elif source is not None:
        histories = histories_of_rows(rows, source, retrieval.item_ids)
    return query_vectors(retrieval.query_tower, user, context, histories, timestamp, retrieval.item_vectors)


def share_met(rows: TrainingSet) -> float:
    """Of an even sample of the rows, the share whose item is among the user's latest events before it."""
    if rows.histories is None or not len(rows):
        return 0.0
    some = np.unique(np.linspace(0, len(rows) - 1, _MET_SAMPLE).astype(np.int64))
    met, _, _ = rows.histories.take(some).padded(rows.timestamp[some])
    return float((met == rows.item_position[some, None]).any(axis=1).mean())


def _distinct(items: NDArray[np.int32], types: NDArray[np.int32], ages: IntArray) -> Tokens:
    """Histories [B, L] by their distinct tokens: what is computed of an event apart from its age is computed once."""
    kinds = int(types.max(initial=0)) + 1
    code = items.astype(np.int64) * kinds + types
    there = items >= 0
    distinct, place = np.unique(code[there], return_inverse=True)
    token = np.full(items.shape, -1, np.int64)
    token[there] = place
    return Tokens(distinct // kinds, distinct % kinds, token, np.ascontiguousarray(ages, np.int64))
