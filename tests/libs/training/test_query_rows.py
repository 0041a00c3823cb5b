"""What training shows of a user, and what sessions teach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.features.history import Histories
from cascade.features.spec import EVENT_TYPES
from cascade.models import TwoTower
from cascade.training.errors import TrainingInputError
from cascade.training.fine_tuning import FineTuning, fine_tune_two_tower
from cascade.training.loop import LoopConfig
from cascade.training.query_rows import QueryRows, query_vectors
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower

QUICK = TwoTowerTraining(loop=LoopConfig(epochs=6, batch=200, learning_rate=5e-3))


def sessions(world, rows, rng):
    """Every row's user just met three items of one block, whoever he is; what he takes next is of that block too."""
    block = rng.integers(0, world.block_of_item.max() + 1, len(rows))
    inside = [np.flatnonzero(world.block_of_item == b) for b in range(world.block_of_item.max() + 1)]
    met = np.array([rng.choice(inside[b], 3, replace=False) for b in block])
    chosen = np.array([rng.choice(inside[b]) for b in block]).astype(np.int32)
    starts = 3 * np.arange(len(rows), dtype=np.int64)
    timestamp = np.full(len(rows), 1_000_000)
    histories = Histories(
        met.ravel().astype(np.int32),
        np.ones(met.size, np.int8),
        np.tile([999_000, 999_500, 999_900], len(rows)),
        starts,
        starts + 3,
    )
    return replace(rows, item_position=chosen, timestamp=timestamp, histories=histories), block


def of_mode(world, mode: str):
    config = replace(world.two_tower, context_cardinalities=(4,), context_continuous=4)
    if mode == "session":
        config = replace(config, history_length=5, history_event_types=len(EVENT_TYPES) + 1)
    return config


def in_block(model: TwoTower, world, rows, block) -> float:
    items = world.items
    vectors = model.candidate.predict(items.categorical, items.continuous, items.image, items.text)
    queries = query_vectors(model.query, rows.user, rows.context, rows.histories, rows.timestamp, vectors)
    top = np.argsort(-(queries @ vectors.T), axis=1)[:, :5]
    return float((world.block_of_item[top] == block[:, None]).mean())


@pytest.mark.parametrize("exclude_met", [False, True])
def test_what_was_met_just_now_says_what_comes_next(make_world, exclude_met: bool) -> None:
    world, rng = make_world(), np.random.default_rng(4)
    train, _ = sessions(world, world.train, rng)
    later, block = sessions(world, world.validation, rng)
    training = replace(QUICK, exclude_met=exclude_met)
    found = {}
    for mode in ("context", "session"):
        model, report = train_two_tower(train, later, world.items, of_mode(world, mode), training, seed=0)
        assert report.curve.validation_losses
        found[mode] = in_block(model, world, later, block)
    assert found["session"] > 0.9 > found["context"] + 0.3


def test_a_fine_tuned_session_tower_keeps_its_candidates(make_world) -> None:
    world, rng = make_world(rows=600), np.random.default_rng(4)
    train, _ = sessions(world, world.train, rng)
    model, _ = train_two_tower(train, None, world.items, of_mode(world, "session"), QUICK, seed=0)
    later, block = sessions(world, world.validation, rng)
    tuned, _ = fine_tune_two_tower(model, later, world.items, FineTuning().two_tower, seed=1)
    assert tuned.candidate.fingerprint() == model.candidate.fingerprint()
    assert any(not torch.equal(a, b) for a, b in zip(tuned.query.parameters(), model.query.parameters(), strict=True))
    assert in_block(tuned, world, later, block) > in_block(model, world, later, block) - 0.05


def test_sessions_need_histories(make_world) -> None:
    world = make_world()
    with pytest.raises(TrainingInputError, match="these rows come without"):
        train_two_tower(world.train, None, world.items, of_mode(world, "session"), QUICK, seed=0)
    tower = TwoTower(of_mode(world, "session")).query
    with pytest.raises(TrainingInputError, match="reads histories"):
        query_vectors(tower, world.train.user, world.train.context, None, world.train.timestamp, None)
    with pytest.raises(TrainingInputError, match="reads the moment"):
        query_vectors(tower, world.train.user, None, None, world.train.timestamp, None)


def test_a_step_hides_histories_and_never_invents_them(make_world) -> None:
    world, rng = make_world(), np.random.default_rng(4)
    train, _ = sessions(world, world.train, rng)
    training = replace(QUICK, history_dropout=0.3, history_truncation=0.2, event_dropout=0.1)
    rows = QueryRows(train, of_mode(world, "session"), training, torch.device("cpu"))
    at = np.arange(len(train))
    shown, whole = rows.tokens(at, np.random.default_rng(0)), rows.judged(at)[1]
    assert shown is not None
    assert whole is not None
    there = shown.token >= 0
    assert 0.2 < (~there.any(axis=1)).mean() < 0.5
    np.testing.assert_array_equal(shown.items[shown.token[there]], whole.items[whole.token[there]])
    np.testing.assert_array_equal(shown.ages, whole.ages)


def test_met_items_are_not_held_against_a_row_but_its_own_is(make_world) -> None:
    world, rng = make_world(), np.random.default_rng(4)
    train, _ = sessions(world, world.train, rng)
    rows = QueryRows(train, of_mode(world, "session"), replace(QUICK, exclude_met=True), torch.device("cpu"))
    at, columns = np.arange(50), np.concatenate([np.arange(40), np.arange(10)])  # the first ten twice
    mask = rows.met(at, columns, train.item_position[at].astype(np.int64), len(world.items))
    assert mask is not None
    assert train.histories is not None
    met = train.histories.event_item.reshape(-1, 3)
    for n in at:
        expected = np.isin(columns, met[n])
        expected[train.item_position[n]] = False
        np.testing.assert_array_equal(mask[n].numpy(), expected)


def test_two_processes_learn_sessions_as_one_does(make_world) -> None:
    """Random numbers and distinct events are the whole batch's, so that shares of it add up to it."""
    world, rng = make_world(rows=500), np.random.default_rng(4)
    train, _ = sessions(world, world.train, rng)
    later, _ = sessions(world, world.validation, rng)
    loop = LoopConfig(epochs=2, batch=101, learning_rate=5e-3, patience=None)
    training = replace(QUICK, loop=loop, exclude_met=True, device_dropout=0.1)

    def run(processes: int):
        config = of_mode(world, "session")
        return train_two_tower(train, later, world.items, config, training, seed=3, processes=processes)

    (one, alone), (two, both) = run(1), run(2)
    np.testing.assert_allclose(both.curve.losses, alone.curve.losses, rtol=5e-4)
    np.testing.assert_allclose(both.curve.validation_losses, alone.curve.validation_losses, rtol=5e-4)
    for name, value in one.state_dict().items():
        np.testing.assert_allclose(two.state_dict()[name], value, atol=5e-3, err_msg=name)
