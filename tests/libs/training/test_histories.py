"""The ranker learns from what users did before, as far as a step shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cascade.features.history import Histories, histories_of_rows
from cascade.features.spec import EVENT_TYPES
from cascade.features.top_category import EVENT_WEIGHTS
from cascade.models import Dlrm
from cascade.models.matches import EventHistories
from cascade.training import gates
from cascade.training.ablation import GROUPS
from cascade.training.answers import Stages
from cascade.training.calibration import click_logits
from cascade.training.dlrm_training import DlrmObjective, DlrmTraining, Dropout, train_dlrm
from cascade.training.errors import TrainingInputError
from cascade.training.fine_tuning import fine_tune_dlrm
from cascade.training.histories import hidden_events
from cascade.training.impressions import Impressions
from cascade.training.loop import LoopConfig
from cascade.training.questions import ask
from cascade.training.rows import data_summary

QUICK = DlrmTraining(loop=LoopConfig(epochs=4, batch=200, learning_rate=5e-3))


def sessions(world: Any, rows: Any, seed: int) -> Any:
    """Every row's user just met three items of one block, whoever he is; what he takes next is of that block too."""
    rng = np.random.default_rng(seed)
    blocks = int(world.block_of_item.max()) + 1
    block = rng.integers(0, blocks, len(rows))
    inside = [np.flatnonzero(world.block_of_item == b) for b in range(blocks)]
    met = np.array([rng.choice(inside[b], 3, replace=False) for b in block]).astype(np.int32)
    chosen = np.array([rng.choice(inside[b]) for b in block]).astype(np.int32)
    starts = 3 * np.arange(len(rows), dtype=np.int64)
    ages = np.tile([1000, 500, 100], len(rows))
    histories = Histories(met.ravel(), np.ones(met.size, np.int8), 1_000_000 - ages, starts, starts + 3)
    return replace(rows, item_position=chosen, timestamp=np.full(len(rows), 1_000_000), histories=histories)


def reading(world: Any) -> Any:
    return replace(world.dlrm, history_length=5, history_event_types=len(EVENT_TYPES) + 1)


def right(logits: np.ndarray) -> float:
    """Share of clicks above all their negatives."""
    return float((logits[:, :1] > logits[:, 1:]).all(axis=1).mean())


def test_sessions_decide_the_order_where_they_are_read(make_world) -> None:
    world = make_world(rows=2500, blocks=8)
    train, later = sessions(world, world.train, 1), sessions(world, world.validation, 2)
    found = {}
    for name, config in (("without", world.dlrm), ("with", reading(world))):
        model, report = train_dlrm(train, later, world.items, config, QUICK, seed=0)
        found[name] = right(click_logits(model, later, world.items, 5, 3))
        assert report.calibration is not None
    assert found["with"] > 0.45 > found["without"] + 0.2
    tuned, _ = fine_tune_dlrm(
        model, later, world.items, replace(QUICK, loop=replace(QUICK.loop, epochs=1, require_falling_loss=False))
    )
    assert not torch.equal(tuned.matches.by_type, model.matches.by_type)
    assert tuned.config == model.config


def test_rows_without_histories_are_refused(make_world) -> None:
    world = make_world(rows=100)
    rows = sessions(world, world.train, 1)
    for arguments, options in (
        ((world.train, None), {}),
        ((rows, world.validation), {}),
        ((rows, None), {"impressions": Impressions.unclicked(world.validation)}),
    ):
        with pytest.raises(TrainingInputError, match="come without"):
            train_dlrm(*arguments, world.items, reading(world), QUICK, **options)
    with pytest.raises(TrainingInputError, match="come without"):
        click_logits(Dlrm(reading(world)), world.validation, world.items, 5, 0)


def test_impressions_have_their_own_histories(make_world) -> None:
    world = make_world(rows=300)
    rows, shown = sessions(world, world.train, 1), Impressions.unclicked(sessions(world, world.validation, 2))
    objective = DlrmObjective(Dlrm(reading(world)), rows, None, world.items, QUICK, torch.device("cpu"), 0, shown)
    assert objective._histories(shown.rows, np.arange(5), Dropout(), np.random.default_rng(0)).there.sum() == 15
    assert torch.isfinite(objective.loss(np.arange(100), np.random.default_rng(0)))


def test_a_step_hides_histories_whole_or_behind_their_newest(make_world) -> None:
    world = make_world(rows=4000)
    rows = sessions(world, world.train, 1)
    objective = DlrmObjective(Dlrm(reading(world)), rows, None, world.items, QUICK, torch.device("cpu"), 0)
    every = np.arange(len(rows))
    whole = objective._histories(rows, every, Dropout(), np.random.default_rng(0))
    seen = objective._histories(rows, every, Dropout(histories=0.1, events=0.3), np.random.default_rng(0))
    assert whole.there.all()
    left = seen.there.sum(axis=1)
    assert (np.arange(3) < left[:, None]).tolist() == seen.there.tolist()  # the newest stay
    share = np.bincount(left, minlength=4) / len(rows)
    np.testing.assert_allclose(share, [0.1 + 0.3 / 4, 0.3 / 4, 0.3 / 4, 0.6 + 0.3 / 4], atol=0.03)
    np.testing.assert_array_equal(seen.codes, whole.codes)


@pytest.mark.parametrize("hidden", [False, True])
def test_evaluation_and_gates_ask_the_ranker_as_training_does(built, hidden: bool) -> None:
    config = replace(built.ranker.dlrm.config, history_length=10, history_event_types=len(EVENT_TYPES) + 1)
    torch.manual_seed(0)
    model = Dlrm(config).eval()
    with torch.no_grad():
        model.over[0].weight[:, -config.matches :] *= 10
    ranker = replace(built.ranker, dlrm=model)
    table, days = ranker.items, built.dataset.days()[4:]
    questions, _ = ask(built.dataset, days, table, max_rows=60, seed=0, weights=EVENT_WEIGHTS)
    [session] = [group for group in GROUPS if group.history]
    stages = Stages(
        built.retrieval, ranker, table, candidates=8, exclude_seen=False, hidden=session if hidden else None
    )
    items = np.random.default_rng(0).integers(0, len(table), (len(questions), 7)).astype(np.int32)
    found = stages._chances(ranker, questions, items)

    rows = questions.table
    moments = np.asarray(rows.column("timestamp"), np.int64)
    histories = histories_of_rows(rows, built.dataset, table.item_ids)
    if hidden:
        histories = Histories.empty(len(questions))
    user, context = ranker.user_transform.transform(rows), ranker.context_transform.transform(rows)
    at, flat = np.repeat(np.arange(len(items)), 7), items.ravel()
    inputs = (
        np.concatenate([user.categorical[at], table.categorical[flat], context.categorical[at]], axis=1),
        np.concatenate([user.continuous[at], table.continuous[flat], context.continuous[at]], axis=1),
        table.image[flat],
        table.text[flat],
    )
    read = EventHistories.gather(*histories.padded(moments, 10), table.categorical)
    wanted = model.predict(*inputs, read, at).reshape(items.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert hidden or np.abs(model.predict(*inputs).reshape(items.shape) - wanted).max() > 1e-3
    if not hidden:
        _, scores = gates._rank(rows, built.retrieval, ranker, built.dataset, 8, 0)
        own = model.predict(
            np.concatenate([user.categorical, table.categorical[questions.item], context.categorical], axis=1),
            np.concatenate([user.continuous, table.continuous[questions.item], context.continuous], axis=1),
            table.image[questions.item],
            table.text[questions.item],
            read,
        )
        np.testing.assert_allclose(scores[:, 0], own, atol=1e-5)
        with pytest.raises(TrainingInputError, match="come without"):
            gates._rank(rows, built.retrieval, ranker, None, 8, 0)


def test_a_shortened_history_ends_where_it_did() -> None:
    there = np.array([[True, True, False, False]] * 2000)
    hidden = hidden_events(there, 0.0, 1.0, np.random.default_rng(0))
    left = (there & ~hidden).sum(axis=1)
    np.testing.assert_allclose(np.bincount(left) / 2000, [1 / 3] * 3, atol=0.05)


def test_a_checkpoint_of_other_histories_is_another_training(make_world) -> None:
    world = make_world(rows=100)
    one, other = sessions(world, world.train, 1), sessions(world, world.train, 2)
    other = replace(other, item_position=one.item_position)
    assert data_summary(one, world.items) != data_summary(other, world.items)
    assert data_summary(world.train, world.items) == data_summary(replace(world.train), world.items)


def test_two_processes_learn_sessions_as_one_does(make_world) -> None:
    world = make_world(rows=600)
    train, later = sessions(world, world.train, 1), sessions(world, world.validation, 2)
    training = replace(QUICK, loop=LoopConfig(epochs=2, batch=100, learning_rate=5e-3, sparse_from=10))

    def run(count: int) -> Any:
        _, report = train_dlrm(train, later, world.items, reading(world), training, seed=3, processes=count)
        return report.curve

    alone, shared = run(1), run(2)
    np.testing.assert_allclose(shared.losses, alone.losses, rtol=2e-3)
    np.testing.assert_allclose(shared.validation_losses, alone.validation_losses, rtol=2e-3)
