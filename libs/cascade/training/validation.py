"""Rows that judge epochs, held out of the training days themselves.

Early stopping must look at rows that training does not learn from, and the evaluation day must not be looked at before
the evaluation. So what some users did on the last training day is left out of training: unseen, and as late as any.
Whole users' days, because rows of one visit resemble each other: were half of a visit learned, a model that knows the
visitor by heart would look excellent on the other half, and be worse on the next day.
"""

from __future__ import annotations

import numpy as np

from cascade.features.spec import OOV, USER_CATEGORICAL
from cascade.features.training_set import TrainingSet

DAY_S = 86_400
SHARE = 0.25
_USER = USER_CATEGORICAL.index("user_id")


def hold_out(rows: TrainingSet, seed: int, share: float = SHARE) -> tuple[TrainingSet, TrainingSet]:
    """Split rows into those to learn from and those to judge epochs by: a seeded share of users' last UTC day.

    Rows without a known user (masked as cold, or of someone new) are drawn one by one: nothing of them can be learned
    by heart. Both parts keep the rows' order.
    """
    days = rows.timestamp // DAY_S
    late = np.flatnonzero(days == days.max()) if len(rows) else np.empty(0, np.int64)
    users = rows.user.categorical[late, _USER]
    rng = np.random.default_rng(seed)
    chosen = rng.random(int(users.max(initial=OOV)) + 1) < share  # [users]; one draw each, whoever else came that day
    alone = rng.random(len(late)) < share
    judged = late[np.where(users == OOV, alone, chosen[users])]
    learned = np.ones(len(rows), bool)
    learned[judged] = False
    return rows.take(np.flatnonzero(learned)), rows.take(judged)
