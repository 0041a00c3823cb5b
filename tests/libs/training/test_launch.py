"""Two processes (gloo, on the CPU) train what one trains: the same curve, the same model, the same evaluation."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.models import Dlrm, TwoTower
from cascade.training import errors, launch
from cascade.training.dlrm_training import DlrmTraining, train_dlrm
from cascade.training.errors import TrainingInputError, TrainingProcessError
from cascade.training.fine_tuning import FineTuning, fine_tune_dlrm, fine_tune_two_tower
from cascade.training.impressions import Impressions
from cascade.training.launch import processes, together
from cascade.training.loop import CalibrationReport, LoopConfig, LossCurve, TrainingReport
from cascade.training.metrics import auc
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower

TOLERANCE = 2e-4
"""Of losses, relative: floats are summed in another order, and Adam magnifies that where gradients are small."""

LOOP = LoopConfig(epochs=3, batch=101, learning_rate=5e-3, sparse_from=10, patience=None)
"""An odd batch, so that shares differ; tables of ten rows and more are updated row by row."""


def same_curve(one: TrainingReport, two: TrainingReport) -> None:
    assert two.curve.steps == one.curve.steps
    np.testing.assert_allclose(two.curve.losses, one.curve.losses, rtol=TOLERANCE)
    np.testing.assert_allclose(two.curve.validation_losses, one.curve.validation_losses, rtol=TOLERANCE)
    assert two.best_epoch == one.best_epoch
    assert (two.rows, two.parameters) == (one.rows, one.parameters)


def retrieved(model: TwoTower, world) -> tuple[np.ndarray, float]:
    """Scores of the held-out rows [R, I], and the Recall@10 of their items."""
    table, user = world.items, world.validation.user
    vectors = model.candidate.predict(table.categorical, table.continuous, table.image, table.text)
    scores = model.query.predict(user.categorical, user.continuous) @ vectors.T
    top = np.argsort(-scores, axis=1)[:, :10]
    return scores, float((top == world.validation.item_position[:, None]).any(axis=1).mean())


def ranked(model: Dlrm, world) -> tuple[np.ndarray, float]:
    """Probabilities of the held-out clicks and of another item each, and their AUC."""
    table, rows = world.items, world.validation
    items = np.concatenate([rows.item_position, (rows.item_position + 1) % len(table)]).astype(int)
    at = np.tile(np.arange(len(rows)), 2)
    chances = model.predict(
        np.concatenate([rows.user.categorical[at], table.categorical[items], rows.context.categorical[at]], 1),
        np.concatenate([rows.user.continuous[at], table.continuous[items], rows.context.continuous[at]], 1),
        table.image[items],
        table.text[items],
    )
    return chances, auc((at == np.arange(len(at))).astype(int), chances)


@pytest.mark.parametrize(("negatives", "begun"), [("items", 0), ("rows", 9)])
def test_two_towers(make_world, tmp_path: Path, negatives: str, begun: int) -> None:
    """Whole, or from the step at which one process was interrupted."""
    world = make_world(rows=700, skew=0.5)
    training = TwoTowerTraining(loop=LOOP, negatives=negatives)
    told: list[tuple[int, int, float]] = []

    def run(**options):
        return train_two_tower(world.train, world.validation, world.items, world.two_tower, training, seed=3, **options)

    def interrupt(step: int, total: int, loss: float) -> None:
        if step > begun:
            raise KeyboardInterrupt

    one, alone = run()
    if begun:
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint_dir=tmp_path, progress=interrupt)
    two, shared = run(processes=2, checkpoint_dir=tmp_path, progress=lambda *now: told.append(now))
    assert bool(shared.resumed_from) == bool(begun)
    same_curve(alone, shared)
    (scores, recall), (again, likewise) = retrieved(one, world), retrieved(two, world)
    np.testing.assert_allclose(again, scores, atol=5e-3)
    assert likewise == pytest.approx(recall, abs=0.01)
    assert two.query.candidate_fingerprint == two.candidate.fingerprint()
    assert not two.training
    assert told[-1][:2] == (shared.steps, shared.steps)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_the_ranker(make_world) -> None:
    world = make_world(rows=700, skew=0.5)
    training = DlrmTraining(loop=LOOP, negatives="mixed")
    places = np.arange(len(world.validation), dtype=np.int32)
    chances_shown = np.where(places % 3, 1.0, 0.25).astype(np.float32)
    shown = Impressions(world.validation, places % 4 == 0, places % 10, chances_shown)
    train = replace(world.train, weight=np.linspace(1, 3, len(world.train), dtype=np.float32))

    def run(count: int, seed: int = 3) -> tuple[Dlrm, TrainingReport]:
        return train_dlrm(
            train,
            world.validation,
            world.items,
            world.dlrm,
            training,
            impressions=shown,
            seed=seed,
            processes=count,
        )

    (one, alone), (two, shared), (again, _) = run(1), run(2), run(2)
    same_curve(alone, shared)
    (chances, area), (likewise, same_area) = ranked(one, world), ranked(two, world)
    np.testing.assert_allclose(likewise, chances, atol=5e-3)
    assert same_area == pytest.approx(area, abs=0.005)
    assert again.fingerprint() == two.fingerprint()
    assert shared.calibration is not None
    assert two.calibration.kind == shared.calibration.kind


def test_fine_tuning(make_world) -> None:
    world = make_world(rows=600)
    quick = replace(LOOP, epochs=1)
    towers, _ = train_two_tower(world.train, None, world.items, world.two_tower, TwoTowerTraining(loop=quick), seed=0)
    network, _ = train_dlrm(world.train, None, world.items, world.dlrm, DlrmTraining(loop=quick), seed=0)
    how = FineTuning()
    loop = replace(how.two_tower.loop, batch=100, sparse_from=10)

    def both(count: int) -> tuple[TrainingReport, TrainingReport]:
        two_tower = replace(how.two_tower, loop=loop)
        tuned, first = fine_tune_two_tower(towers, world.validation, world.items, two_tower, seed=1, processes=count)
        assert tuned.candidate.fingerprint() == towers.candidate.fingerprint()
        dlrm = replace(how.dlrm, loop=loop)
        _, second = fine_tune_dlrm(network, world.validation, world.items, dlrm, seed=1, processes=count)
        return first, second

    for alone, shared in zip(both(1), both(2), strict=True):
        same_curve(alone, shared)


def fails(how: str, **_: object) -> tuple[Dlrm, TrainingReport]:
    """What the second process does while the first waits for it."""
    if os.environ["RANK"] == "1":
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("no space left on device")
    torch.distributed.barrier()
    raise AssertionError("the other was to fail")


@pytest.mark.parametrize(("how", "said"), [("raises", "OSError: no space left on device"), ("killed", "SIGKILL")])
def test_any_other_failure_ends_all_and_names_the_process(how: str, said: str) -> None:
    with pytest.raises(TrainingProcessError, match=f"process 2 of 2.*{said}"):
        together(fails, 2, Dlrm, how, device="cpu", checkpoint_dir=None, progress=None)


def test_an_error_of_training_comes_back_as_itself(make_world) -> None:
    """All processes raise this one; a step must have a row for each."""
    world = make_world(rows=100)
    training = TwoTowerTraining(loop=LoopConfig(batch=2))
    with pytest.raises(TrainingInputError, match="3 processes cannot share a step of 2 rows"):
        train_two_tower(world.train, None, world.items, world.two_tower, training, processes=3)


def test_the_handlers_of_signals_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher takes them; a Ctrl-C must be what it was, during a training and after it."""
    assert threading.current_thread() is threading.main_thread()
    # As in a terminal: a process started in the background ignores the signal.
    before = signal.default_int_handler
    outside = signal.signal(signal.SIGINT, before)

    def interrupted(*_: object):
        def launched(*_: object) -> None:
            signal.signal(signal.SIGINT, launch_handler)
            signal.raise_signal(signal.SIGINT)

        return launched

    def launch_handler(number: int, _: object) -> None:
        raise launch.SignalException("stopped", signal.Signals(number))

    monkeypatch.setattr(launch, "elastic_launch", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            together(fails, 2, Dlrm, "raises", device="cpu", checkpoint_dir=None, progress=None)
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGINT, outside)


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes("auto", "cpu") == 1
    assert processes(3, "cpu") == 3
    with pytest.raises(TrainingInputError, match="0 processes"):
        processes(0, "cpu")
    monkeypatch.setattr(launch, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert processes("auto") == 4
    with pytest.raises(TrainingInputError, match="5 processes were asked for and there are 4 GPUs"):
        processes(5)


def test_a_report_comes_back_from_json() -> None:
    calibration = CalibrationReport("temperature", 9, {"none": 0.5}, 0.03, 0.01)
    report = TrainingReport(LossCurve([1], [0.5], [1], [0.25]), 1, 1, 1, 10, 20, 0.5, 0, calibration)
    assert TrainingReport.from_dict(report.to_dict()) == report
    assert issubclass(errors.TrainingProcessError, errors.TrainingError)
