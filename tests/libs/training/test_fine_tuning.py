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
from cascade.models.affinity import Affinity
from cascade.training.dlrm_training import DlrmObjective, DlrmTraining, Dropout, train_dlrm
from cascade.training.errors import TrainingInputError
from cascade.training.fine_tuning import FineTuning, fine_tune_dlrm, fine_tune_two_tower
from cascade.training.impressions import Impressions
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


def test_what_others_add_to_the_logit_stays(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    model = Dlrm(world.dlrm)
    model.affinity = Affinity(TwoTower(world.two_tower), 0.7)

    tuned, _ = fine_tune_dlrm(model, moved(world, 1), world.items, seed=2)

    assert tuned.affinity is model.affinity
    tuned.save(tmp_path)
    again = Dlrm.load(tmp_path)
    assert again.affinity is not None
    assert again.affinity.weight == 0.7


def test_what_others_say_of_shown_items_is_not_learned_again(make_world: MakeWorld) -> None:
    """Clicks in lists that the towers explain: a ranker which adds their score has nothing to learn from them."""
    world = make_world()
    model, _ = train_dlrm(world.train, None, world.items, world.dlrm, RANKER, seed=1)
    towers = TwoTower(world.two_tower).eval()
    rng = np.random.default_rng(0)
    at = rng.integers(0, len(world.train), 6000)
    seen = replace(world.train.take(at), item_position=rng.integers(0, len(world.items), 6000).astype(np.int32))
    features, items = seen.user, world.items
    vectors = towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
    queries = towers.query.predict(features.categorical, features.continuous)
    score = np.einsum("rd,rd->r", queries, vectors[seen.item_position])
    score = (score - score.mean()) / score.std()
    clicked = rng.random(6000) < 1 / (1 + np.exp(-(served(model, world, seen) + 3 * score)))
    shown = replace(Impressions.unclicked(seen), clicked=clicked)

    change = []
    for offset in ((3 * score).astype(np.float32), None):
        told = replace(shown, offset=offset)
        objective = DlrmObjective(model, world.train, None, items, FineTuning().dlrm, torch.device("cpu"), 0, told)
        drawn, labels, _, _ = objective._shown(told, Dropout(), rng)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(drawn, labels)
        loss.backward()
        change.append(float(sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None)))
        model.zero_grad()
    assert change[0] < change[1] / 4


def served(model: Dlrm, world: Any, rows: Any) -> Any:
    """The network's logits of rows' own items."""
    at, items = rows.item_position, world.items
    chance = model.predict(
        np.concatenate([rows.user.categorical, items.categorical[at], rows.context.categorical], axis=1),
        np.concatenate([rows.user.continuous, items.continuous[at], rows.context.continuous], axis=1),
        items.image[at],
        items.text[at],
    )
    return np.log(chance / (1 - chance))
