from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade.features.training_set import TrainingSet
from cascade.training.dlrm_training import DlrmTraining, train_dlrm
from cascade.training.errors import TrainingInputError
from cascade.training.fine_tuning import fine_tune_dlrm
from cascade.training.impressions import Impressions
from cascade.training.loop import LoopConfig
from cascade.training.metrics import auc, calibration_error
from cascade.training.negatives import UniformNegatives

QUICK = DlrmTraining(loop=LoopConfig(epochs=3, batch=200, learning_rate=5e-3))


def listed(rows: TrainingSet) -> Impressions:
    """Rows as if shown, at places in turn, every fourth clicked."""
    at = np.arange(len(rows))
    ones = np.ones(len(rows), np.float32)
    return Impressions(rows, at % 4 == 0, (at % 10).astype(np.int32), ones)


def chance(model, world, rows: TrainingSet, items: np.ndarray) -> np.ndarray:
    """Click probabilities of each row with its items, [R, N] → [R, N]."""
    table, flat = world.items, items.ravel()
    at = np.repeat(np.arange(len(items)), items.shape[1])
    return model.predict(
        np.concatenate([rows.user.categorical[at], table.categorical[flat], rows.context.categorical[at]], 1),
        np.concatenate([rows.user.continuous[at], table.continuous[flat], rows.context.continuous[at]], 1),
        table.image[flat],
        table.text[flat],
    ).reshape(items.shape)


def sampled(model, world) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of held-out clicks and five uniform negatives each."""
    rows = world.validation
    positives = rows.item_position.astype(np.int64)
    drawn = UniformNegatives().draw(positives, 5, len(world.items), np.random.default_rng(1))
    items = np.concatenate([positives[:, None], drawn.items], axis=1)
    labels = np.zeros(items.shape, int)
    labels[:, 0] = 1
    return labels.ravel(), chance(model, world, rows, items).ravel()


@pytest.mark.parametrize("negatives", ["in_batch", "mixed", "uniform"])
def test_blocks_are_learned_and_probabilities_calibrated(make_world, negatives: str) -> None:
    world = make_world(rows=2500, skew=0.5)
    training = replace(QUICK, negatives=negatives, loop=replace(QUICK.loop, epochs=6, learning_rate=1e-2))
    model, report = train_dlrm(world.train, world.validation, world.items, world.dlrm, training, seed=0)
    labels, probabilities = sampled(model, world)
    assert auc(labels, probabilities) > 0.85
    assert calibration_error(labels, probabilities) < 0.05
    assert report.curve.validation_losses[-1] < report.curve.validation_losses[0]
    assert not model.training


def test_the_correction_keeps_popularity_in_the_ranking(make_world) -> None:
    """In a block the first item is met eight times as often as the last: so are the corrected odds."""
    world = make_world(users=8, items=16, blocks=2, rows=3000, skew=1.0)
    ends = np.stack([world.block_of_row, world.block_of_row + 14], axis=1)
    training = replace(QUICK, loop=replace(QUICK.loop, epochs=5, patience=None))
    ratio = {}
    for corrected in (True, False):
        model, _ = train_dlrm(
            world.train, None, world.items, world.dlrm, replace(training, correct_popularity=corrected), seed=0
        )
        p = chance(model, world, world.validation, ends)
        odds = p / (1 - p)
        ratio[corrected] = np.exp(np.log(odds[:, 0] / odds[:, 1]).mean())
    assert 4 < ratio[True] < 16
    assert ratio[False] < 3


def test_impressions_without_a_click_count_against_an_item(make_world) -> None:
    world = make_world(rows=1000)
    rows = world.train
    shown = rows.take(np.arange(1000))
    # every user was shown item 0 time and again, and never clicked
    unclicked = Impressions.unclicked(TrainingSet(shown.user, shown.context, np.zeros(1000, np.int32), shown.timestamp))
    training = replace(QUICK, loop=LoopConfig(epochs=6, batch=100, learning_rate=5e-3))
    plain, _ = train_dlrm(rows, None, world.items, world.dlrm, training, seed=0)
    taught, _ = train_dlrm(rows, None, world.items, world.dlrm, training, impressions=unclicked, seed=0)
    item = np.zeros((len(world.validation), 1), int)
    before, after = (chance(model, world, world.validation, item).mean() for model in (plain, taught))
    assert after < before / 2


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_an_item_is_not_blamed_for_where_it_was_shown(make_world, fine_tuned: bool) -> None:
    """Two alike items of a block, one mostly shown first and one mostly last, where few look."""
    world = make_world(users=8, items=16, blocks=2, rows=2000)
    rng = np.random.default_rng(0)
    at = rng.integers(0, len(world.validation), 8000)
    second = rng.random(8000) < 0.5
    last = rng.random(8000) < np.where(second, 0.9, 0.1)
    seen = world.validation.take(at)
    rows = TrainingSet(seen.user, seen.context, np.where(second, 2, 0).astype(np.int32), seen.timestamp)
    own = world.block_of_row[at] == 0
    clicked = rng.random(8000) < np.where(own, 0.6, 0.05) * np.where(last, 0.1, 1.0)
    told = Impressions(rows, clicked, np.where(last, 9, 0).astype(np.int32), np.ones(8000, np.float32))
    untold = Impressions(rows, clicked, np.zeros(8000, np.int32), told.propensity)
    training = replace(QUICK, loop=replace(QUICK.loop, epochs=4, patience=None, require_falling_loss=False))
    start, _ = train_dlrm(world.train, None, world.items, world.dlrm, training, seed=0)
    ratio = []
    for impressions in (told, untold):
        if fine_tuned:
            model, _ = fine_tune_dlrm(start, world.train, world.items, training, impressions=impressions, seed=0)
        else:
            model, _ = train_dlrm(world.train, None, world.items, world.dlrm, training, impressions=impressions, seed=0)
        asking = world.validation.take(np.flatnonzero(world.block_of_row == 0)[:100])
        chances = chance(model, world, asking, np.tile([0, 2], (len(asking), 1)))
        ratio.append(float(np.median(chances[:, 1] / chances[:, 0])))
    assert ratio[0] > 0.7
    assert ratio[1] < 0.9 * ratio[0]


def test_the_served_network_knows_no_places(make_world) -> None:
    world = make_world(rows=600)
    plain, _ = train_dlrm(world.train, None, world.items, world.dlrm, QUICK, seed=0)
    shown = listed(world.validation)
    model, _ = train_dlrm(world.train, None, world.items, world.dlrm, QUICK, impressions=shown, seed=0)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert model.fingerprint() != plain.fingerprint()


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan])
def test_weights_that_are_none_are_refused(make_world, weight: float) -> None:
    world = make_world(rows=600)
    rows = replace(world.train, weight=np.full(600, weight, np.float32))
    with pytest.raises(TrainingInputError, match="more than 0"):
        train_dlrm(rows, None, world.items, world.dlrm, QUICK, seed=0)


def test_an_item_without_an_id_is_scored_by_its_content(make_world) -> None:
    world = make_world()
    training = replace(
        QUICK, item_id_dropout=0.3, loop=replace(QUICK.loop, epochs=6, learning_rate=1e-2, patience=None)
    )
    model, _ = train_dlrm(world.train, world.validation, world.items, world.dlrm, training, seed=0)
    labels, probabilities = sampled(model, _without_ids(world))
    assert auc(labels, probabilities) > 0.85


def _without_ids(world):
    categorical = world.items.categorical.copy()
    categorical[:, 0] = 0
    return replace(world, items=replace(world.items, categorical=categorical))


@pytest.mark.parametrize("sparse_from", [10, 10_000])
def test_the_seed_decides_and_a_checkpoint_continues(make_world, tmp_path, sparse_from: int) -> None:
    world = make_world(rows=600)
    training = replace(QUICK, loop=LoopConfig(epochs=2, batch=100, checkpoint_every=4, sparse_from=sparse_from))

    def run(seed: int, **options):
        return train_dlrm(
            replace(world.train, weight=np.linspace(1, 2, len(world.train), dtype=np.float32)),
            world.validation,
            world.items,
            world.dlrm,
            training,
            seed=seed,
            impressions=listed(world.validation),
            **options,
        )

    whole, _ = run(3)
    other, _ = run(4)
    assert whole.fingerprint() != other.fingerprint()

    def stop(step: int, total: int, loss: float) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(3, checkpoint_dir=tmp_path, progress=stop)
    continued, report = run(3, checkpoint_dir=tmp_path)
    assert report.resumed_from == 8
    assert continued.fingerprint() == whole.fingerprint()


def test_what_cannot_be_trained_on_is_refused(make_world) -> None:
    world = make_world(rows=50)
    with pytest.raises(TrainingInputError, match="'hard' are unknown"):
        train_dlrm(world.train, None, world.items, world.dlrm, DlrmTraining(negatives="hard"))
    with pytest.raises(TrainingInputError, match="0 training rows"):
        train_dlrm(world.train.take(np.array([], int)), None, world.items, world.dlrm)


def test_probabilities_are_calibrated_on_the_rows_that_judge_the_epochs(make_world) -> None:
    world = make_world(rows=2500, skew=0.5)
    training = replace(QUICK, loop=replace(QUICK.loop, epochs=6, learning_rate=1e-2, patience=None))
    model, report = train_dlrm(world.train, world.validation, world.items, world.dlrm, training, seed=0)
    plain, without = train_dlrm(
        world.train, world.validation, world.items, world.dlrm, replace(training, calibrate=False), seed=0
    )
    assert model.fingerprint() == plain.fingerprint()  # the weights are none of its business
    assert without.calibration is None
    assert plain.calibration.kind == "none"
    assert report.calibration is not None
    assert report.calibration.kind == model.calibration.kind
    assert report.calibration.clicks == len(world.validation)
    assert report.calibration.losses[model.calibration.kind] <= report.calibration.losses["none"]
    labels, probabilities = sampled(model, world)
    assert auc(labels, probabilities) == pytest.approx(auc(*sampled(plain, world)), abs=1e-4)


def test_without_held_out_rows_nothing_is_calibrated(make_world) -> None:
    world = make_world(rows=600)
    model, report = train_dlrm(world.train, None, world.items, world.dlrm, QUICK, seed=0)
    assert (model.calibration.kind, report.calibration) == ("none", None)
