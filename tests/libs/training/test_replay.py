"""What a day's fine-tuning is given to learn from."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.item_table import ItemTable
from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.training.errors import TrainingInputError
from cascade.training.replay import (
    Replay,
    fine_tuning_rows,
    on_table,
    replayed_days,
    rows_of_days,
    seed_of,
    split_by_time,
)

DAY = dt.date(2026, 1, 5)
DAYS = [DAY + dt.timedelta(days=n) for n in range(6)]
DAY_S = 86_400


def start_of(day: dt.date) -> int:
    return (day.toordinal() - dt.date(1970, 1, 1).toordinal()) * DAY_S


def rows_on(days: list[dt.date], each: int, item: int = 0) -> TrainingSet:
    timestamp = np.concatenate([start_of(day) + np.arange(each) for day in days]).astype(np.int64)
    count = len(timestamp)
    numbers = np.arange(count, dtype=np.int32)[:, None]
    user = Encoded(np.repeat(numbers, 4, axis=1), np.zeros((count, 1), np.float32))
    context = Encoded(np.zeros((count, 1), np.int32), np.zeros((count, 4), np.float32))
    return TrainingSet(user, context, np.full(count, item, np.int32), timestamp)


def table_of(ids: list[str]) -> ItemTable:
    count = len(ids)
    zeros = np.zeros((count, 64), np.float32)
    return ItemTable(ids, np.zeros((count, 4), np.int32), np.zeros((count, 1), np.float32), zeros, zeros)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80), st.floats(0, 0.99))
def test_the_held_out_part_is_the_last_of_the_day(seconds: list[int], share: float) -> None:
    timestamp = np.array(seconds, np.int64)

    held_out = split_by_time(timestamp, share)

    assert held_out.sum() >= round(len(seconds) * share)
    if held_out.any() and not held_out.all():
        # a second stands on one side, so that no row is judged by what happened beside it
        assert timestamp[held_out].min() > timestamp[~held_out].max()


def test_a_held_out_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(TrainingInputError, match="held-out share"):
        split_by_time(np.arange(4), 1.0)


def test_replayed_days_are_random_ones_of_the_training_days_and_the_same_again() -> None:
    chosen = {tuple(replayed_days(DAYS, 2, seed)) for seed in range(30)}

    assert len(chosen) > 5
    assert all(len(set(days)) == 2 and list(days) == sorted(days) and set(days) <= set(DAYS) for days in chosen)
    assert replayed_days(DAYS, 2, 7) == replayed_days(list(reversed(DAYS)), 2, 7)
    assert replayed_days(DAYS, 99, 7) == DAYS


def test_each_day_draws_by_a_seed_of_its_own() -> None:
    assert len({seed_of(7, day) for day in DAYS} | {seed_of(8, day) for day in DAYS}) == 12
    assert seed_of(7, DAY) == seed_of(7, DAY)


def test_the_day_is_whole_and_replay_is_of_the_chosen_days_and_the_evaluation_days() -> None:
    new, training, evaluation = rows_on([DAYS[5]], 40), rows_on(DAYS[:4], 25), rows_on([DAYS[4]], 25)

    rows = fine_tuning_rows(new, training, DAYS[1:3], evaluation, share=0.5, seed=3)

    assert len(rows) == 60
    assert (rows.timestamp[:40] == new.timestamp).all()
    days = {int(day) for day in rows.timestamp[40:] // DAY_S}
    assert days == {start_of(day) // DAY_S for day in (DAYS[1], DAYS[2], DAYS[4])}
    assert len(set(rows.timestamp.tolist())) == 60
    again = fine_tuning_rows(new, training, DAYS[1:3], evaluation, share=0.5, seed=3)
    assert (again.timestamp == rows.timestamp).all()
    assert (again.user.categorical == rows.user.categorical).all()


def test_replay_gives_no_more_than_there_is() -> None:
    rows = fine_tuning_rows(rows_on([DAYS[5]], 40), rows_on(DAYS[:1], 5), DAYS[:1], rows_on([DAYS[4]], 5), 9.0, 3)

    assert len(rows) == 50


def test_rows_of_days_are_found_by_their_utc_day() -> None:
    rows = rows_on(DAYS[:3], 4)

    assert rows_of_days(rows, [DAYS[1]]).tolist() == [4, 5, 6, 7]
    assert rows_of_days(rows, []).tolist() == []


def test_rows_move_to_another_table_by_item_and_those_that_left_are_dropped() -> None:
    before, after = table_of(["a", "b", "c"]), table_of(["c", "a", "new"])
    rows = TrainingSet(
        rows_on([DAY], 4).user, rows_on([DAY], 4).context, np.array([0, 1, 2, 0], np.int32), np.arange(4)
    )

    moved = on_table(rows, before, after)

    assert [after.item_ids[n] for n in moved.item_position] == ["a", "c", "a"]
    assert moved.timestamp.tolist() == [0, 2, 3]
    assert moved.dropped_rows == 1
    assert on_table(rows, before, table_of(["a", "b", "c"])) is rows


def test_a_replay_that_cannot_be_is_refused() -> None:
    with pytest.raises(TrainingInputError, match="-1"):
        Replay(days=-1)
