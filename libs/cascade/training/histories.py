"""Histories on their way to the models: what a training step hides of them, and what the ranker reads of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.features.history import Histories
from cascade.features.item_table import ItemTable
from cascade.features.training_set import TrainingSet
from cascade.models.dlrm import DlrmConfig
from cascade.models.matches import EventHistories
from cascade.training.errors import TrainingInputError

_WITHOUT = (
    "the ranker reads what users did before each row, and these rows come without; make them with histories, or train "
    "a ranker with history_length 0"
)


def hidden_events(
    there: NDArray[np.bool_], lost: float, shortened: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which events a step does not see, bool [B, L]: of a share of rows all, of another all but the newest few.

    there: bool [B, L], newest first; how many are left of a shortened history is drawn, none to all
    """
    count, length = there.shape
    lengths = there.sum(axis=1)
    fate = rng.random(count)
    kept = np.where(fate < lost, 0, length)
    cut = (fate >= lost) & (fate < lost + shortened)
    kept = np.where(cut, (rng.random(count) * (lengths + 1)).astype(np.int64), kept)
    hidden: NDArray[np.bool_] = np.arange(length) >= kept[:, None]
    return hidden


def ranker_histories(
    config: DlrmConfig, histories: Histories | None, timestamp: NDArray[np.int64], items: ItemTable
) -> EventHistories | None:
    """What a ranker reads of rows' histories, whose positions are the item table's; None where it reads none.

    timestamp: int64 [R], the rows' moments. Raises TrainingInputError where it reads them and there are none.
    """
    if not config.history_length:
        return None
    if histories is None:
        raise TrainingInputError(_WITHOUT)
    return EventHistories.gather(*histories.padded(timestamp, config.history_length), items.categorical)


def require_histories(config: DlrmConfig, *parts: TrainingSet | None) -> None:
    """Raises TrainingInputError where a ranker reads histories and some of these rows come without."""
    for rows in parts:
        if config.history_length and rows is not None and rows.histories is None:
            raise TrainingInputError(_WITHOUT)
