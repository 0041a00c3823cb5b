from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade.features.training_set import TrainingSet
from cascade.training.errors import TrainingInputError
from cascade.training.loop import LoopConfig
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower

QUICK = TwoTowerTraining(loop=LoopConfig(epochs=6, batch=200, learning_rate=5e-3))


def scores(model, world, rows: TrainingSet) -> np.ndarray:
    table = world.items
    vectors = model.candidate.predict(table.categorical, table.continuous, table.image, table.text)
    return model.query.predict(rows.user.categorical, rows.user.continuous) @ vectors.T


def share_in_own_block(model, world, k: int = 10) -> float:
    top = np.argsort(-scores(model, world, world.validation), axis=1)[:, :k]
    return float((world.block_of_item[top] == world.block_of_row[:, None]).mean())


@pytest.mark.parametrize("negatives", ["items", "rows"])
def test_blocks_are_learned(make_world, negatives: str) -> None:
    world = make_world()
    model, report = train_two_tower(
        world.train, world.validation, world.items, world.two_tower, replace(QUICK, negatives=negatives), seed=0
    )
    assert share_in_own_block(model, world) > 0.95
    assert report.rows == 2000
    assert report.curve.validation_losses[-1] < report.curve.validation_losses[0]
    assert report.curve.losses[-1] < report.curve.losses[0]
    assert model.query.candidate_fingerprint == model.candidate.fingerprint()
    assert not model.training


def test_an_item_without_an_id_is_placed_by_its_content(make_world) -> None:
    world = make_world()
    training = replace(QUICK, item_id_dropout=0.3)
    model, _ = train_two_tower(world.train, world.validation, world.items, world.two_tower, training, seed=0)
    unknown = world.items.categorical.copy()
    unknown[:, 0] = 0
    vectors = model.candidate.predict(unknown, world.items.continuous, world.items.image, world.items.text)
    users = world.validation.user
    top = np.argsort(-(model.query.predict(users.categorical, users.continuous) @ vectors.T), axis=1)[:, :10]
    assert (world.block_of_item[top] == world.block_of_row[:, None]).mean() > 0.9


def test_popular_items_rank_above_their_block_mates(make_world) -> None:
    """With the log-Q correction scores follow p(item | user), popularity included."""
    world = make_world(users=8, items=16, blocks=2, rows=6000, skew=1.0)
    training = replace(QUICK, loop=replace(QUICK.loop, epochs=10, patience=None))
    model, _ = train_two_tower(world.train, None, world.items, world.two_tower, training, seed=0)
    order = np.argsort(-scores(model, world, world.validation), axis=1)
    popular = np.array([[block, block + 2] for block in world.block_of_row])  # the two most met of each block
    assert (np.sort(order[:, :2], axis=1) == popular).all(axis=1).mean() > 0.9


@pytest.mark.parametrize("sparse_from", [10, 10_000])
def test_the_seed_decides_and_a_checkpoint_continues(make_world, tmp_path, sparse_from: int) -> None:
    world = make_world(rows=600)
    training = replace(QUICK, loop=LoopConfig(epochs=2, batch=100, checkpoint_every=4, sparse_from=sparse_from))

    def run(seed: int, **options):
        return train_two_tower(
            world.train, world.validation, world.items, world.two_tower, training, seed=seed, **options
        )

    whole, _ = run(3)
    again, _ = run(3)
    other, _ = run(4)
    assert whole.candidate.fingerprint() == again.candidate.fingerprint() != other.candidate.fingerprint()

    def stop(step: int, total: int, loss: float) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(3, checkpoint_dir=tmp_path, progress=stop)
    continued, report = run(3, checkpoint_dir=tmp_path)
    assert report.resumed_from == 8
    assert continued.candidate.fingerprint() == whole.candidate.fingerprint()
    assert not list(tmp_path.glob(".*"))


def test_other_data_is_another_run(make_world, tmp_path) -> None:
    training = replace(QUICK, loop=LoopConfig(epochs=1, batch=100))
    for seed in (0, 1):
        world = make_world(rows=400, seed=seed)
        _, report = train_two_tower(world.train, None, world.items, world.two_tower, training, checkpoint_dir=tmp_path)
        assert report.resumed_from == 0


def test_mapped_rows_train_like_held_ones(make_world, tmp_path) -> None:
    world = make_world(rows=400)
    training = replace(QUICK, loop=LoopConfig(epochs=1, batch=100))
    world.train.save(tmp_path / "rows")
    held, _ = train_two_tower(world.train, None, world.items, world.two_tower, training)
    mapped, _ = train_two_tower(TrainingSet.load(tmp_path / "rows"), None, world.items, world.two_tower, training)
    assert held.candidate.fingerprint() == mapped.candidate.fingerprint()


def test_a_large_catalog_is_validated_on_a_sample(make_world) -> None:
    world = make_world(rows=400)
    training = replace(QUICK, loop=LoopConfig(epochs=1, batch=100), validation_items=5, validation_rows=20)
    _, report = train_two_tower(world.train, world.validation, world.items, world.two_tower, training)
    assert np.isfinite(report.curve.validation_losses).all()


def test_what_cannot_be_trained_on_is_refused(make_world) -> None:
    world = make_world(rows=50)
    rows = world.train

    def attempt(train_rows: TrainingSet, **options) -> None:
        train_two_tower(train_rows, None, world.items, world.two_tower, **options)

    empty = rows.take(np.array([], int))
    with pytest.raises(TrainingInputError, match="0 training rows"):
        attempt(empty)
    foreign = TrainingSet(rows.user, rows.context, rows.item_position + 1, rows.timestamp)
    with pytest.raises(TrainingInputError, match="the item table has 0 to 39"):
        attempt(foreign)
    same = TrainingSet(rows.user, rows.context, np.zeros(50, np.int32), rows.timestamp)
    with pytest.raises(TrainingInputError, match="same item"):
        attempt(same)
    with pytest.raises(TrainingInputError, match="'popular' are unknown"):
        attempt(rows, training=TwoTowerTraining(negatives="popular"))
    with pytest.raises(TrainingInputError, match="device 'abacus'"):
        attempt(rows, device="abacus")
