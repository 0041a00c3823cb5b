"""What judges epochs is not learned from, and is of the last training day."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.spec import CONTEXT_CATEGORICAL, CONTEXT_CONTINUOUS, USER_CATEGORICAL, USER_CONTINUOUS, Encoded
from cascade.features.training_set import TrainingSet
from cascade.training.validation import DAY_S, hold_out


def rows_at(timestamps: list[int]) -> TrainingSet:
    count = len(timestamps)
    return TrainingSet(
        Encoded(
            np.zeros((count, len(USER_CATEGORICAL)), np.int32), np.zeros((count, len(USER_CONTINUOUS)), np.float32)
        ),
        Encoded(
            np.zeros((count, len(CONTEXT_CATEGORICAL)), np.int32),
            np.zeros((count, len(CONTEXT_CONTINUOUS)), np.float32),
        ),
        np.arange(count, dtype=np.int32),
        np.array(timestamps, np.int64),
    )


@given(st.lists(st.integers(0, 5 * DAY_S), max_size=200), st.floats(0, 0.9), st.integers(0, 9))
def test_every_row_has_one_use_and_judges_are_of_the_last_day(stamps: list[int], share: float, seed: int) -> None:
    rows = rows_at(sorted(stamps))

    learned, judged = hold_out(rows, seed, share)

    assert sorted([*learned.item_position, *judged.item_position]) == list(range(len(rows)))
    assert list(learned.item_position) == sorted(learned.item_position)
    if len(judged):
        assert set(judged.timestamp // DAY_S) == {max(stamps) // DAY_S}
    last = [stamp for stamp in stamps if stamp // DAY_S == max(stamps) // DAY_S] if stamps else []
    assert len(judged) == int(len(last) * share)


def test_split_follows_the_seed() -> None:
    rows = rows_at(list(range(400)))

    first, again, other = (hold_out(rows, seed)[1].item_position.tolist() for seed in (1, 1, 2))

    assert first == again != other
