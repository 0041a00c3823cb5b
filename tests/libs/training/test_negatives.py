from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.training.errors import TrainingInputError
from cascade.training.negatives import (
    AlikeNegatives,
    InBatchNegatives,
    MixedNegatives,
    UniformNegatives,
    drop_ids,
    in_batch_items,
    in_batch_rows,
    item_frequency,
)

BATCHES = st.lists(st.integers(0, 9), min_size=2, max_size=60).map(np.array)


def test_frequencies_are_shares_of_rows() -> None:
    np.testing.assert_allclose(item_frequency(np.array([0, 2, 2, 2]), 4), [0.25, 0, 0.75, 0])
    with pytest.raises(TrainingInputError, match="no training rows"):
        item_frequency(np.array([], int), 4)
    with pytest.raises(TrainingInputError, match="item 4 of a table with 4"):
        item_frequency(np.array([4]), 4)


@given(BATCHES)
def test_every_rows_positive_is_its_target(positives: np.ndarray) -> None:
    frequency = item_frequency(positives, 10)
    for sampler in (in_batch_rows, in_batch_items):
        candidates = sampler(positives, frequency)
        np.testing.assert_array_equal(candidates.items[candidates.target], positives)
        assert np.isfinite(candidates.log_q).all()
    assert len(np.unique(candidates.items)) == len(candidates.items)


def test_q_of_rows_is_the_items_frequency() -> None:
    positives = np.array([1, 0, 1])
    candidates = in_batch_rows(positives, np.array([0.2, 0.8]))
    np.testing.assert_allclose(candidates.log_q, np.log([0.8, 0.2, 0.8]), rtol=1e-6)
    assert candidates.repeated


def test_q_of_items_is_the_chance_that_a_batch_holds_them() -> None:
    rng = np.random.default_rng(0)
    frequency = np.array([0.6, 0.3, 0.09, 0.01])
    batches = rng.choice(4, (20_000, 5), p=frequency)
    held = [(batches == item).any(axis=1).mean() for item in range(4)]
    candidates = in_batch_items(np.array([0, 1, 2, 3, 3]), frequency)
    np.testing.assert_allclose(np.exp(candidates.log_q), held, atol=0.01)
    assert not candidates.repeated


@given(BATCHES.filter(lambda b: len(np.unique(b)) > 1), st.integers(1, 5), st.integers(0, 99))
def test_every_click_is_met_once_and_its_negatives_are_other_items(
    positives: np.ndarray, count: int, seed: int
) -> None:
    mixed = [MixedNegatives(item_frequency(positives, 10), drawn) for drawn in range(1, count)]
    for sampler in (InBatchNegatives(), UniformNegatives(), AlikeNegatives(np.arange(10) // 4), *mixed):
        squares = sampler.squares(positives, count, 10, np.random.default_rng(seed))
        shape = (len(squares.clicks), squares.clicks.shape[1], squares.items.shape[1])
        assert squares.labels.shape == squares.usable.shape == shape
        assert shape[2] == 1 + count
        own = positives[np.broadcast_to(squares.clicks[:, :, None], shape)]
        items = np.broadcast_to(squares.items[:, None, :], shape)
        met = squares.labels & squares.usable
        np.testing.assert_array_equal(own[met], items[met])
        clicks = np.broadcast_to(squares.clicks[:, :, None], shape)[met]
        np.testing.assert_array_equal(np.sort(clicks), np.arange(len(positives)))
        against = squares.usable & ~squares.labels
        assert (own[against] != items[against]).all()
        again = sampler.squares(positives, count, 10, np.random.default_rng(seed))
        for name in ("clicks", "items", "labels", "usable"):
            np.testing.assert_array_equal(getattr(squares, name), getattr(again, name))


def test_in_a_batch_of_different_items_each_is_a_negative_as_often() -> None:
    positives = np.arange(12)
    squares = InBatchNegatives().squares(positives, 5, 20, np.random.default_rng(3))
    against = np.broadcast_to(squares.items[:, None, :], squares.usable.shape)[squares.usable & ~squares.labels]
    assert np.bincount(against).tolist() == [5] * 12


def test_a_last_group_is_filled_up_with_negatives_alone() -> None:
    squares = InBatchNegatives().squares(np.arange(8), 5, 20, np.random.default_rng(3))
    assert squares.items.shape == (2, 6)
    assert squares.usable.sum() == 8 * 6
    assert not squares.usable[1, 2:].any()


@given(BATCHES, st.integers(1, 5), st.integers(0, 99))
def test_alike_negatives_are_of_the_clicks_own_kind(positives: np.ndarray, count: int, seed: int) -> None:
    kinds = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    squares = AlikeNegatives(kinds).squares(positives, count, 10, np.random.default_rng(seed))
    own = np.broadcast_to(kinds[positives[squares.clicks]][:, :, None], squares.usable.shape)
    other = np.broadcast_to(kinds[squares.items][:, None], squares.usable.shape)
    np.testing.assert_array_equal(own[squares.usable], other[squares.usable])


def test_clicks_of_a_kind_come_together() -> None:
    kinds = np.arange(40) % 4
    positives = np.random.default_rng(0).permutation(40)
    found = AlikeNegatives(kinds).squares(positives, 4, 40, np.random.default_rng(1))
    assert found.usable.all()  # ten clicks of each kind are two groups of five
    by_chance = InBatchNegatives().squares(positives, 4, 40, np.random.default_rng(1))
    same = kinds[by_chance.items][:, :, None] == kinds[by_chance.items][:, None]
    assert same.mean() < 0.6


def test_in_batch_negatives_follow_popularity_and_uniform_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    frequency = np.array([0.7, 0.2, 0.1])
    positives = rng.choice(3, 4000, p=frequency)
    others = positives != 0
    squares = InBatchNegatives().squares(positives, 5, 3, rng)
    against = squares.usable & ~squares.labels & (positives[squares.clicks] != 0)[:, :, None]
    drawn = np.broadcast_to(squares.items[:, None, :], against.shape)[against]
    uniform = UniformNegatives().draw(positives, 5, 3, rng).items[others]
    assert (drawn == 0).mean() > 0.75
    assert (uniform == 0).mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(InBatchNegatives().log_lift(frequency, 5), np.log(frequency * 3), rtol=1e-6)
    assert not UniformNegatives().log_lift(frequency, 5).any()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_mixed_negatives_come_as_their_correction_says(power: float) -> None:
    rng = np.random.default_rng(0)
    frequency = np.array([0.7, 0.2, 0.1, 0.0])
    sampler = MixedNegatives(frequency, 2, power)
    positives = rng.choice(4, 24_000, p=frequency)
    squares = sampler.squares(positives, 5, 4, rng)
    met = np.bincount(squares.items[:, :4].ravel(), minlength=4) / squares.items[:, :4].size
    drawn = np.bincount(squares.items[:, 4:].ravel(), minlength=4) / squares.items[:, 4:].size
    np.testing.assert_allclose((3 * met + 2 * drawn) / 5, np.exp(sampler.log_lift(frequency, 5)) / 4, atol=0.015)
    assert squares.items.shape[1] == 6  # one's own, three others', two drawn
    assert drawn[3] > 0  # never clicked, and met all the same
    if power == 0:
        np.testing.assert_allclose(drawn, 0.25, atol=0.02)


def test_a_mixture_of_one_kind_is_refused() -> None:
    frequency = np.array([0.5, 0.5])
    with pytest.raises(TrainingInputError, match="at least 1"):
        MixedNegatives(frequency, 0)
    with pytest.raises(TrainingInputError, match="5 of 5"):
        MixedNegatives(frequency, 5).squares(np.array([0, 1]), 5, 2, np.random.default_rng(0))


def test_an_item_never_met_keeps_a_finite_correction() -> None:
    assert InBatchNegatives().log_lift(np.array([1.0, 0.0]), 5).tolist() == [pytest.approx(np.log(2)), -5.0]


def test_a_batch_of_one_item_has_no_usable_negatives() -> None:
    squares = InBatchNegatives().squares(np.array([3, 3, 3]), 2, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(squares.usable, squares.labels)
    for sampler in (InBatchNegatives(), UniformNegatives()):
        with pytest.raises(TrainingInputError, match="0 negatives"):
            sampler.squares(np.array([3, 4]), 0, 10, np.random.default_rng(0))


def test_dropped_ids_leave_everything_else() -> None:
    categorical = np.arange(1, 4001, dtype=np.int32).reshape(1000, 4)
    dropped = drop_ids(categorical, 0.1, np.random.default_rng(0))
    assert (dropped[:, 0] == 0).mean() == pytest.approx(0.1, abs=0.03)
    np.testing.assert_array_equal(dropped[:, 1:], categorical[:, 1:])
    assert (categorical[:, 0] > 0).all()
    np.testing.assert_array_equal(drop_ids(categorical, 0, np.random.default_rng(0)), categorical)
