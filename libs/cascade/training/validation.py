"""Rows that judge epochs, held out of the training days themselves.

Early stopping must look at rows that training does not learn from, and the evaluation day must not be looked at before
the evaluation. So a share of the last training day's rows is left out of training: unseen, and as late as any.
"""

from __future__ import annotations

import numpy as np

from cascade.features.training_set import TrainingSet

DAY_S = 86_400
SHARE = 0.25


def hold_out(rows: TrainingSet, seed: int, share: float = SHARE) -> tuple[TrainingSet, TrainingSet]:
    """Split rows into those to learn from and those to judge epochs by: a seeded share of the last UTC day's.

    A set of a single day gives up the same share of it. Both parts keep the rows' order.
    """
    days = rows.timestamp // DAY_S
    late = np.flatnonzero(days == days.max()) if len(rows) else np.empty(0, np.int64)
    judged = np.sort(np.random.default_rng(seed).choice(late, int(len(late) * share), replace=False))
    learned = np.ones(len(rows), bool)
    learned[judged] = False
    return rows.take(np.flatnonzero(learned)), rows.take(judged)
