"""What a day's fine-tuning learns from: the day, and a sample of older days so that they are not forgotten.

The last part of the day, by time, is kept from training: it is what the gates judge on (gates.py).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.features.history import Histories
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.training.errors import TrainingInputError

_DAY_S = 86_400
_DAYS, _ROWS = 0, 1  # separate streams of the same seed


@dataclass(frozen=True)
class Replay:
    """days: random training days that are replayed, beside the evaluation days
    share: how many rows of them, at most, as a share of the new day's
    """

    days: int = 2
    share: float = 0.3

    def __post_init__(self) -> None:
        if self.days < 0 or self.share < 0:
            raise TrainingInputError(f"replay of {self.days} days and a share of {self.share}: take at least 0 of each")


def seed_of(seed: int, day: dt.date) -> int:
    """The seed of everything that a day's fine-tuning draws: another one each day, the same when it is run again."""
    return int(np.random.default_rng([seed, day.toordinal()]).integers(2**31))


def replayed_days(training_days: Sequence[dt.date], count: int, seed: int) -> list[dt.date]:
    """`count` random ones of the training days, or all where there are fewer; in order."""
    days = sorted(set(training_days))
    rng = np.random.default_rng([seed, _DAYS])
    chosen = rng.permutation(len(days))[:count]
    return [days[n] for n in sorted(chosen.tolist())]


def split_by_time(timestamp: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """bool [R]: the rows of the last part of the day, about `share` of them; those of one second stay together."""
    if not 0 <= share < 1:
        raise TrainingInputError(f"the held-out share of a day is {share}; take 0 up to less than 1")
    count = round(len(timestamp) * share)
    if not count:
        return np.zeros(len(timestamp), bool)
    cut = np.partition(timestamp, len(timestamp) - count)[len(timestamp) - count]
    held_out: NDArray[np.bool_] = timestamp >= cut
    return held_out


def rows_of_days(rows: TrainingSet, days: Sequence[dt.date]) -> NDArray[np.int64]:
    """Row numbers of the rows of these UTC days."""
    epoch = dt.date(1970, 1, 1).toordinal()
    numbers = np.array(sorted(day.toordinal() - epoch for day in days), np.int64)
    return np.flatnonzero(np.isin(rows.timestamp // _DAY_S, numbers))


def fine_tuning_rows(
    day: TrainingSet,
    training: TrainingSet,
    replayed: Sequence[dt.date],
    evaluation: TrainingSet,
    share: float,
    seed: int,
) -> TrainingSet:
    """The day's rows, then a seeded sample of the replayed training days and of the evaluation days, in order.

    At most `share` × the day's rows are replayed, so that a fine-tuning's length follows the day's.
    All three sets name items of the same table.
    """
    chosen = rows_of_days(training, replayed)
    pool = len(chosen) + len(evaluation)
    wanted = min(pool, round(len(day) * share))
    drawn = np.sort(np.random.default_rng([seed, _ROWS]).choice(pool, wanted, replace=False))
    older = training.take(chosen[drawn[drawn < len(chosen)]])
    newer = evaluation.take(drawn[drawn >= len(chosen)] - len(chosen))
    return concatenated([day, older, newer])


def on_table(rows: TrainingSet, table: ItemTable, other: ItemTable) -> TrainingSet:
    """The same rows with the positions that their items have in another table; rows whose item left are dropped."""
    if table.item_ids == other.item_ids:
        return rows
    moved = other.positions(table.item_ids)[rows.item_position]
    kept = np.flatnonzero(moved != UNKNOWN)
    taken = rows.take(kept)
    return TrainingSet(
        taken.user,
        taken.context,
        moved[kept],
        taken.timestamp,
        rows.dropped_rows + len(rows) - len(kept),
        None if taken.histories is None else taken.histories.moved(other.positions(table.item_ids)),
        taken.weight,
    )


def concatenated(parts: Sequence[TrainingSet]) -> TrainingSet:
    """The parts' rows, one after another, in memory; with histories where all parts have them, with weights where any
    has them: a row without counts 1."""
    histories = [part.histories for part in parts if part.histories is not None]
    return TrainingSet(
        _joined([part.user for part in parts]),
        _joined([part.context for part in parts]),
        np.concatenate([part.item_position for part in parts]),
        np.concatenate([part.timestamp for part in parts]),
        sum(part.dropped_rows for part in parts),
        Histories.joined(histories) if len(histories) == len(parts) else None,
        np.concatenate([_weight(part) for part in parts]) if any(part.weight is not None for part in parts) else None,
    )


def _weight(part: TrainingSet) -> NDArray[np.float32]:
    return np.ones(len(part), np.float32) if part.weight is None else part.weight


def _joined(parts: Sequence[Encoded]) -> Encoded:
    return Encoded(
        np.concatenate([part.categorical for part in parts]), np.concatenate([part.continuous for part in parts])
    )
