"""What judges epochs is not learned from, and is of the last training day."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.spec import (
    CONTEXT_CATEGORICAL,
    CONTEXT_CONTINUOUS,
    OOV,
    USER_CATEGORICAL,
    USER_CONTINUOUS,
    Encoded,
)
from cascade.features.training_set import TrainingSet
from cascade.training.validation import DAY_S, hold_out


def rows_at(timestamps: list[int], users: list[int] | None = None) -> TrainingSet:
    count = len(timestamps)
    categorical = np.zeros((count, len(USER_CATEGORICAL)), np.int32)
    categorical[:, USER_CATEGORICAL.index("user_id")] = users or 0
    return TrainingSet(
        Encoded(categorical, np.zeros((count, len(USER_CONTINUOUS)), np.float32)),
        Encoded(
            np.zeros((count, len(CONTEXT_CATEGORICAL)), np.int32),
            np.zeros((count, len(CONTEXT_CONTINUOUS)), np.float32),
        ),
        np.arange(count, dtype=np.int32),
        np.array(timestamps, np.int64),
    )


visits = st.lists(st.tuples(st.integers(0, 5 * DAY_S), st.integers(0, 20)), max_size=200)


@given(visits, st.floats(0, 0.9), st.integers(0, 9))
def test_every_row_has_one_use_and_judges_are_of_the_last_day(
    met: list[tuple[int, int]], share: float, seed: int
) -> None:
    met = sorted(met)
    stamps, users = [stamp for stamp, _ in met], np.array([user for _, user in met], int)
    rows = rows_at(stamps, users.tolist())

    learned, judged = hold_out(rows, seed, share)

    assert sorted([*learned.item_position, *judged.item_position]) == list(range(len(rows)))
    assert list(learned.item_position) == sorted(learned.item_position)
    if len(judged):
        assert set(judged.timestamp // DAY_S) == {max(stamps) // DAY_S}
    # a known user's last day is judged by whole, or learned from whole
    last_day = np.array(stamps, int) // DAY_S == (max(stamps) // DAY_S if stamps else 0)
    judging = np.isin(np.arange(len(rows)), judged.item_position)
    for user in set(users[last_day].tolist()) - {OOV}:
        assert len(set(judging[last_day & (users == user)].tolist())) == 1


def test_about_the_share_of_users_and_of_strangers_rows() -> None:
    known = rows_at([1] * 8000, [1 + number // 4 for number in range(8000)])
    strangers = rows_at([1] * 8000)
    for rows in (known, strangers):
        assert 0.22 < len(hold_out(rows, 0, 0.25)[1]) / 8000 < 0.28


def test_split_follows_the_seed() -> None:
    rows = rows_at(list(range(400)))

    first, again, other = (hold_out(rows, seed)[1].item_position.tolist() for seed in (1, 1, 2))

    assert first == again != other
