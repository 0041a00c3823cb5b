"""A trained model goes on from where it was, and only what may change does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascade.models import Dlrm, TwoTower
from cascade.training.dlrm_training import DlrmTraining, train_dlrm
from cascade.training.errors import TrainingInputError
from cascade.training.fine_tuning import FineTuning, fine_tune_dlrm, fine_tune_two_tower
from cascade.training.loop import LoopConfig
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower

MakeWorld = Callable[..., Any]
TOWERS = TwoTowerTraining(loop=LoopConfig(epochs=6, batch=256, learning_rate=1e-2))
RANKER = DlrmTraining(loop=LoopConfig(epochs=4, batch=256, learning_rate=1e-2))


def moved(world: Any, by: int) -> Any:
    """The same people a day later: what they want is another block, `by` further."""
    items = len(world.items)
    return replace(world.train, item_position=((world.train.item_position + by) % items).astype(np.int32))


def recall_at_10(model: TwoTower, world: Any, rows: Any) -> float:
    items = world.items
    vectors = model.candidate.predict(items.categorical, items.continuous, items.image, items.text)
    queries = model.query.predict(rows.user.categorical, rows.user.continuous)
    top = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    return float((top == rows.item_position[:, None]).any(axis=1).mean())


@pytest.fixture
def towers(make_world: MakeWorld) -> tuple[Any, TwoTower]:
    world = make_world()
    model, _ = train_two_tower(world.train, None, world.items, world.two_tower, TOWERS, seed=1)
    return world, model


def test_query_tower_follows_what_changed_and_the_candidate_tower_stays_to_the_bit(
    towers: tuple[Any, TwoTower],
) -> None:
    world, model = towers
    later = moved(world, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rate = FineTuning().with_rates(0.02, 0.02)

    tuned, report = fine_tune_two_tower(
        model, later, world.items, replace(rate.two_tower, loop=replace(rate.two_tower.loop, batch=128)), seed=2
    )

    assert recall_at_10(tuned, world, later) > recall_at_10(model, world, later) + 0.2
    assert tuned.query.candidate_fingerprint == model.candidate.fingerprint() == tuned.candidate.fingerprint()
    assert report.epochs == 1
    after = tuned.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.startswith("candidate."))
    assert any(not torch.equal(after[name], value) for name, value in before.items() if name.startswith("query."))
    # the predecessor is another day's artifact: nothing in it moves
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_ranker_learns_whole_and_leaves_its_predecessor_alone(make_world: MakeWorld) -> None:
    world = make_world()
    model, _ = train_dlrm(world.train, None, world.items, world.dlrm, RANKER, seed=1)
    before = model.fingerprint()

    tuned, _ = fine_tune_dlrm(model, moved(world, 1), world.items, seed=2)

    assert model.fingerprint() == before
    unchanged = [
        name for name, value in tuned.named_parameters() if torch.equal(value, dict(model.named_parameters())[name])
    ]
    assert unchanged == []
    assert tuned.config == model.config


def test_the_same_day_again_gives_the_same_weights(towers: tuple[Any, TwoTower]) -> None:
    world, model = towers

    first, second = (fine_tune_two_tower(model, moved(world, 1), world.items, seed=4)[0] for _ in range(2))
    other, _ = fine_tune_two_tower(model, moved(world, 1), world.items, seed=5)

    assert torch.equal(first.query.mlp[0].weight, second.query.mlp[0].weight)
    assert not torch.equal(first.query.mlp[0].weight, other.query.mlp[0].weight)


def test_an_interrupted_fine_tuning_ends_in_the_same_weights(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    model = Dlrm(world.dlrm)
    training = replace(FineTuning().dlrm, loop=replace(FineTuning().dlrm.loop, batch=200, checkpoint_every=3))
    whole, _ = fine_tune_dlrm(model, world.train, world.items, training, seed=6)

    def stop(step: int, *_: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune_dlrm(model, world.train, world.items, training, seed=6, checkpoint_dir=tmp_path, progress=stop)
    resumed, report = fine_tune_dlrm(model, world.train, world.items, training, seed=6, checkpoint_dir=tmp_path)

    assert report.resumed_from == 3
    assert resumed.fingerprint() == whole.fingerprint()


def test_rows_of_items_that_the_table_lacks_are_refused(towers: tuple[Any, TwoTower]) -> None:
    world, model = towers
    foreign = replace(world.train, item_position=world.train.item_position + len(world.items))

    with pytest.raises(TrainingInputError, match="item table"):
        fine_tune_two_tower(model, foreign, world.items)


def test_a_new_item_needs_no_row_of_its_own(towers: tuple[Any, TwoTower]) -> None:
    """Rows of an item without an id teach the query tower where its content lies."""
    world, model = towers
    world.items.categorical[0, 0] = 0
    rows = replace(world.train, item_position=np.where(world.train.item_position < 4, 0, 5).astype(np.int32))

    tuned, _ = fine_tune_two_tower(model, rows, world.items)

    assert tuned.query.candidate_fingerprint == model.candidate.fingerprint()
