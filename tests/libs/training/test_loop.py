"""The loop on a toy objective: resuming, stopping, refusing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cascade.training import checkpoint as checkpoints
from cascade.training.errors import (
    CheckpointError,
    TrainingDivergedError,
    TrainingInputError,
    TrainingStalledError,
)
from cascade.training.loop import LoopConfig, run_name, train


class Toy:
    """Rows are users of a table; each learns a target of its own, seen with noise. Validation may be scripted."""

    def __init__(self, rows: int = 60, validation: list[float] | None = None, scale: float = 1.0) -> None:
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 4)
        self.line = nn.Linear(4, 1)
        self._module = nn.ModuleDict({"table": self.table, "line": self.line})
        self.rows = rows
        self.user = torch.arange(rows) % 10
        self.validation = validation
        self.scale = scale
        self.fail_at: int | None = None
        self.calls = 0

    @property
    def module(self) -> nn.Module:
        return self._module

    def loss(self, rows, rng):
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        user = self.user[torch.from_numpy(rows)]
        noise = torch.from_numpy(rng.normal(size=len(rows)).astype(np.float32)) * 0.1
        answer = self.line(self.table(user)).squeeze(1)
        return ((answer - user.float() / 3 + noise) ** 2).mean() * self.scale

    def validation_loss(self):
        return self.validation.pop(0) if self.validation else None


class RisingToy(Toy):
    """Its loss grows with every step."""

    def loss(self, rows, rng):
        return super().loss(rows, rng) * 0 + self.line.bias.sum() * 0 + self.calls


def weights(toy: Toy) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in toy.module.state_dict().items()}


@pytest.mark.parametrize("sparse_from", [5, 1000])
@pytest.mark.parametrize("stop", [3, 12, 19])
def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path, sparse_from: int, stop: int) -> None:
    config = LoopConfig(
        epochs=4, batch=10, learning_rate=0.02, checkpoint_every=2, sparse_from=sparse_from, weight_decay=0.01
    )
    scores = [5.0, 4.0, 3.0, 3.5]
    whole = Toy(validation=list(scores))
    report = train(whole, config, seed=1, run="a")

    interrupted = Toy(validation=list(scores))
    interrupted.fail_at = stop
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, config, seed=1, run="a", checkpoint_dir=tmp_path)

    resumed = Toy(validation=scores[(stop - 1) // 6 :])
    continued = train(resumed, config, seed=1, run="a", checkpoint_dir=tmp_path)
    assert continued.resumed_from > 0
    assert continued.curve == report.curve
    assert (continued.best_epoch, continued.steps) == (report.best_epoch, report.steps) == (3, 24)
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(resumed)[name], value)


def test_a_finished_training_is_not_repeated(tmp_path) -> None:
    config = LoopConfig(epochs=2, batch=10)
    first = Toy()
    train(first, config, seed=1, run="a", checkpoint_dir=tmp_path)
    again = Toy()
    report = train(again, config, seed=1, run="a", checkpoint_dir=tmp_path)
    assert again.calls == 0
    assert report.resumed_from == report.steps == 12
    for name, value in weights(first).items():
        np.testing.assert_array_equal(weights(again)[name], value)


def test_another_runs_checkpoint_is_replaced(tmp_path) -> None:
    config = LoopConfig(epochs=1, batch=10)
    train(Toy(), config, seed=1, run="a", checkpoint_dir=tmp_path)
    report = train(Toy(), config, seed=1, run="b", checkpoint_dir=tmp_path)
    assert report.resumed_from == 0
    assert checkpoints.load(tmp_path, "b") is not None
    assert checkpoints.load(tmp_path, "a") is None


def test_a_damaged_checkpoint_is_named(tmp_path) -> None:
    train(Toy(), LoopConfig(epochs=1, batch=10), seed=1, run="a", checkpoint_dir=tmp_path)
    path = tmp_path / checkpoints.FILE
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="remove it to train from the start"):
        train(Toy(), LoopConfig(epochs=1, batch=10), seed=1, run="a", checkpoint_dir=tmp_path)
    checkpoints.clear(tmp_path)
    assert not path.exists()


def test_the_seed_decides_everything() -> None:
    config = LoopConfig(epochs=2, batch=7)
    toys = [Toy(), Toy(), Toy()]
    for toy, seed in zip(toys, (1, 1, 2), strict=True):
        train(toy, config, seed=seed)
    one, same, other = (weights(toy)["line.weight"] for toy in toys)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    report = train(Toy(validation=[3.0, 2.0, 2.5, 9.0, 9.0]), LoopConfig(epochs=5, batch=10), seed=0)
    assert (report.epochs, report.best_epoch) == (3, 2)
    assert report.curve.validation_losses == [3.0, 2.0, 2.5]
    assert report.curve.validation_steps == [6, 12, 18]
    best = Toy(validation=[3.0, 2.0])
    # the same schedule, interrupted after the second epoch
    best.fail_at = 13
    with pytest.raises(KeyboardInterrupt):
        train(best, LoopConfig(epochs=5, batch=10), seed=0)
    whole = Toy(validation=[3.0, 2.0, 2.5])
    train(whole, LoopConfig(epochs=5, batch=10), seed=0)
    for name, value in weights(best).items():
        np.testing.assert_array_equal(weights(whole)[name], value)


@pytest.mark.parametrize(("rows_at_most", "steps", "epochs"), [(25, 2, 1), (60, 6, 1), (95, 10, 2), (9_000, 24, 4)])
def test_a_budget_of_rows_ends_a_training(rows_at_most: int, steps: int, epochs: int) -> None:
    told: list[int] = []
    report = train(
        Toy(validation=[3.0, 2.0, 1.0, 0.5]),
        LoopConfig(epochs=4, batch=10, rows_at_most=rows_at_most, require_falling_loss=False),
        seed=0,
        progress=lambda step, total, loss: told.append(total),
    )
    assert (report.steps, report.epochs) == (steps, epochs)
    assert report.curve.validation_steps[-1] == steps  # judged where it ended
    assert set(told) == {steps}


def test_the_rate_falls_to_its_end_within_the_budget() -> None:
    """A cut training is a shorter training: the same as one of as many epochs where the budget is a whole number."""
    cut, short = Toy(), Toy()
    train(cut, LoopConfig(epochs=4, batch=10, rows_at_most=120), seed=1)
    train(short, LoopConfig(epochs=2, batch=10), seed=1)
    for name, value in weights(cut).items():
        np.testing.assert_array_equal(weights(short)[name], value)


def test_a_training_cut_within_an_epoch_resumes(tmp_path) -> None:
    config = LoopConfig(epochs=4, batch=10, learning_rate=0.02, checkpoint_every=2, rows_at_most=100)
    whole, interrupted, resumed = Toy(), Toy(), Toy()
    report = train(whole, config, seed=1, run="a")
    interrupted.fail_at = 10
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, config, seed=1, run="a", checkpoint_dir=tmp_path)
    continued = train(resumed, config, seed=1, run="a", checkpoint_dir=tmp_path)
    assert (continued.resumed_from, continued.steps) == (8, report.steps)
    again = Toy()
    assert train(again, config, seed=1, run="a", checkpoint_dir=tmp_path).resumed_from == 10
    assert again.calls == 0
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(resumed)[name], value)
        np.testing.assert_array_equal(weights(again)[name], value)


def test_without_patience_all_epochs_run() -> None:
    scores = [3.0, 9.0, 9.0, 9.0]
    report = train(Toy(validation=scores), LoopConfig(epochs=4, batch=10, learning_rate=0.05, patience=None), seed=0)
    assert (report.epochs, report.best_epoch) == (4, 1)


def test_a_loss_that_is_not_finite_raises() -> None:
    with pytest.raises(TrainingDivergedError, match="step 1 of"):
        train(Toy(scale=float("nan")), LoopConfig(epochs=1, batch=10), seed=0)
    with pytest.raises(TrainingDivergedError, match="validation loss is nan"):
        train(Toy(validation=[float("nan")]), LoopConfig(epochs=1, batch=10), seed=0)


def test_a_loss_that_does_not_fall_raises_unless_it_need_not() -> None:
    with pytest.raises(TrainingStalledError, match="the loss went from"):
        train(RisingToy(), LoopConfig(epochs=3, batch=10), seed=3)
    assert train(RisingToy(), LoopConfig(epochs=3, batch=10, require_falling_loss=False), seed=3).steps == 18
    assert train(RisingToy(), LoopConfig(epochs=1, batch=10), seed=3).steps == 6  # too few to judge


def test_progress_tells_step_total_and_loss() -> None:
    told: list[tuple[int, int, float]] = []
    report = train(Toy(), LoopConfig(epochs=2, batch=25), seed=0, progress=lambda *now: told.append(now))
    assert [step for step, _, _ in told] == list(range(1, 7))
    assert {total for _, total, _ in told} == {6}
    assert told[-1][2] == report.curve.losses[-1]
    assert report.to_dict()["curve"]["steps"] == report.curve.steps


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"epochs": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"checkpoint_every": 0}, {"rows_at_most": 9}):
        with pytest.raises(TrainingInputError):
            LoopConfig(**wrong)
    with pytest.raises(TrainingInputError, match="1 training rows"):
        train(Toy(rows=1), LoopConfig(), seed=0)


def test_a_run_is_named_by_all_its_parts() -> None:
    assert run_name(a=1, b=[2]) == run_name(b=[2], a=1)
    assert run_name(a=1) != run_name(a=2)
