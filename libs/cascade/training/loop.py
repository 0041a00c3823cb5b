"""The loop: batches, steps, checkpoints, early stopping. It knows an objective, and no model.

Every random choice comes from generators seeded by (seed, epoch, step), so a training that was interrupted and
continued ends in the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.training import checkpoint as checkpoints
from cascade.training.checkpoint import Checkpoint
from cascade.training.errors import TrainingDivergedError, TrainingInputError, TrainingStalledError
from cascade.training.optimiser import SPARSE_FROM, LazyAdam
from cascade.training.ranks import Ranks, current, replicated, share_rows


@dataclass(frozen=True)
class CalibrationReport:
    """What was fitted: losses of the candidates on held-out halves, and the calibration error before and after, on the
    rows fitted."""

    kind: str
    clicks: int
    losses: dict[str, float]
    error_before: float
    error_after: float
    affinity: dict[str, float] = field(default_factory=dict)
    """the weights of others' scores beside the ranker's logit, by name; 0: left out"""


Progress = Callable[[int, int, float], None]
"""Called with the steps done, the steps in all, and the latest loss."""

MOST_EPOCHS = 30
PATIENCE = 2
"""of trainings of many passes: a single epoch without progress may be chance"""

_SHUFFLE, _STEP = 0, 1  # separate streams of the same seed
_CURVE_POINTS = 200
_JUDGED_STEPS = 10


class Objective(Protocol):
    """What is trained and how its loss is computed for some rows."""

    @property
    def module(self) -> nn.Module:
        """Everything with weights, the loss's own included."""
        ...

    @property
    def rows(self) -> int:
        """The number of training rows."""
        ...

    def loss(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """The mean loss of these training rows, a scalar to differentiate."""
        ...

    def validation_loss(self) -> float | None:
        """The loss on held-out rows; None where there are none."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to learn."""

    epochs: int = 6
    batch: int = 4096
    """rows a step, at most; an epoch's batches differ by one row"""
    learning_rate: float = 3e-3
    warmup: float = 0.05
    """share of all steps over which the rate rises; it then falls to 0 along a cosine"""
    patience: int | None = 1
    """epochs without a better validation loss after which to stop; None trains all epochs"""
    weight_decay: float = 0.0
    """decoupled, of all weights but lazily updated tables"""
    rows_at_most: int | None = None
    """rows to learn from over all epochs, repeats counted; the schedule fits them. Ends large trainings in time"""
    sparse_from: int = SPARSE_FROM
    """embedding tables of at least this many rows are updated lazily"""
    checkpoint_every: int = 500
    """steps between checkpoints, beside the one after each epoch"""
    require_falling_loss: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or self.learning_rate <= 0 or self.checkpoint_every < 1:
            raise TrainingInputError(
                f"epochs {self.epochs}, batch {self.batch}, learning rate {self.learning_rate} and checkpoint every "
                f"{self.checkpoint_every} steps: take at least 1, 2, above 0 and 1"
            )
        if self.rows_at_most is not None and self.rows_at_most < self.batch:
            raise TrainingInputError(
                f"rows at most {self.rows_at_most} is less than a batch of {self.batch}; give at least one batch"
            )

    def steps(self, rows: int) -> tuple[int, int]:
        """For a set of this many rows, the steps of an epoch and of the whole training."""
        per_epoch = math.ceil(rows / self.batch)
        total = per_epoch * self.epochs
        if self.rows_at_most is not None:
            total = min(total, max(1, round(self.rows_at_most / rows * per_epoch)))
        return per_epoch, total

    def meeting(self, rows: int, wanted: int) -> Self:
        """With as many epochs over a set of this many rows as bring the rows met, repeats counted, to what is wanted:
        at least as many as now, at most MOST_EPOCHS."""
        epochs = max(self.epochs, min(MOST_EPOCHS, round(wanted / max(1, rows))))
        patience = self.patience if epochs == self.epochs or self.patience is None else max(PATIENCE, self.patience)
        return replace(self, epochs=epochs, patience=patience)


@dataclass
class LossCurve:
    """The losses of a training, for plots: mean training loss up to each step, validation loss after each epoch."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingReport:
    """How a training went."""

    curve: LossCurve
    epochs: int
    """epochs run; the last may have been cut short by `rows_at_most`"""
    best_epoch: int
    """the epoch whose weights were kept, from 1"""
    steps: int
    rows: int
    parameters: int
    seconds: float
    """of this process; a continued training does not count what was done before"""
    resumed_from: int
    """the step a checkpoint let it continue from; 0 for a training from the start"""
    calibration: CalibrationReport | None = None
    """what was fitted on held-out rows afterwards, for a ranker"""

    def to_dict(self) -> dict[str, Any]:
        """For JSON and metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingReport:
        """From JSON."""
        told = values.get("calibration")
        return cls(
            **{
                **values,
                "curve": LossCurve(**values["curve"]),
                "calibration": None if told is None else CalibrationReport(**told),
            }
        )


def run_name(**parts: Any) -> str:
    """A name that two trainings share only when all of these parts are equal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def train(
    objective: Objective,
    config: LoopConfig,
    *,
    seed: int,
    run: str = "",
    checkpoint_dir: Path | None = None,
    progress: Progress | None = None,
) -> TrainingReport:
    """Minimise the objective and leave its module with the best epoch's weights, in eval mode.

    run: names this training for its checkpoint (`run_name`).
    Raises TrainingDivergedError on a loss that is not finite, TrainingStalledError on one that does not fall,
    CheckpointError on a damaged checkpoint.
    """
    started = time.perf_counter()
    ranks = current()
    state = _State(objective, config, run, checkpoint_dir, ranks)
    per_epoch, total = config.steps(objective.rows)
    if objective.rows // per_epoch < ranks.world:
        raise TrainingInputError(
            f"{ranks.world} processes cannot share a step of {objective.rows // per_epoch} rows; take fewer"
        )
    resumed_from = state.resume()
    loss_of = objective.loss if ranks.world == 1 else replicated(_Loss(objective), state.optimiser.row_tables)
    objective.module.train()
    while state.step < total and not state.stopped:
        epoch = state.step // per_epoch
        for rows in _batches(objective.rows, per_epoch, seed, epoch, state.step % per_epoch):
            rng = np.random.default_rng([seed, _STEP, epoch, state.step])
            loss = loss_of(rows, rng)
            state.optimiser.zero_grad()
            loss.backward()
            share_rows(state.optimiser.row_tables, ranks)
            state.optimiser.step(_rate(state.step, total, config.warmup))
            state.record(ranks.mean(loss), total)
            if progress:
                progress(state.step, total, state.losses[-1])
            if state.step == total:
                break
            if state.step % config.checkpoint_every == 0 and state.step % per_epoch:
                state.save()
        state.end_epoch(epoch + 1)
        state.save()
    state.finish()
    return TrainingReport(
        curve=state.curve,
        epochs=math.ceil(state.step / per_epoch),
        best_epoch=state.best_epoch,
        steps=state.step,
        rows=objective.rows,
        parameters=sum(p.numel() for p in objective.module.parameters()),
        seconds=time.perf_counter() - started,
        resumed_from=resumed_from,
    )


class _Loss(nn.Module):
    """An objective's loss as the forward pass of a module that holds its weights, for several processes."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.weights = objective.module
        self._objective = objective

    def forward(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """See Objective.loss."""
        return self._objective.loss(rows, rng)


class _State:
    """All that changes while training, and its checkpoint.

    Of several processes the first judges and writes; they stop together, for all are told the same losses.
    """

    def __init__(self, objective: Objective, config: LoopConfig, run: str, folder: Path | None, ranks: Ranks) -> None:
        if objective.rows < 2:
            raise TrainingInputError(f"there are {objective.rows} training rows; train on more days")
        self._objective, self._config, self._run, self._folder = objective, config, run, folder
        self._ranks = ranks
        self.optimiser = LazyAdam(objective.module, config.learning_rate, config.sparse_from, config.weight_decay)
        self.step = 0
        self.losses: list[float] = []
        self.curve = LossCurve()
        self.best: dict[str, Tensor] = {}
        self.best_loss = math.inf
        self.best_epoch = 0
        self.stopped = False

    def record(self, loss: float, total: int) -> None:
        """Count a step. Raises TrainingDivergedError on a loss that is not finite."""
        self.step += 1
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss is {loss} at step {self.step} of {total}; lower the learning rate "
                f"({self._config.learning_rate}) and look for extreme feature values"
            )
        self.losses.append(loss)
        every = max(1, total // _CURVE_POINTS)
        if self.step % every == 0:
            self.curve.steps.append(self.step)
            self.curve.losses.append(float(np.mean(self.losses[-every:])))

    def end_epoch(self, epoch: int) -> None:
        """Validate, keep the best weights, and decide whether to go on."""
        module = self._objective.module
        module.eval()
        with torch.inference_mode():
            loss = self._ranks.told(self._objective.validation_loss() if self._ranks.first else None)
        module.train()
        if loss is not None:
            if not math.isfinite(loss):
                raise TrainingDivergedError(f"the validation loss is {loss} after epoch {epoch}")
            self.curve.validation_steps.append(self.step)
            self.curve.validation_losses.append(loss)
        if loss is None or loss < self.best_loss:
            self.best_loss = math.inf if loss is None else loss
            self.best_epoch = epoch
            # Without validation the last weights are the best ones, and need no copy.
            if loss is not None and self._ranks.first:
                self.best = {name: value.detach().clone() for name, value in module.state_dict().items()}
        patience = self._config.patience
        self.stopped = patience is not None and loss is not None and epoch - self.best_epoch >= patience

    def finish(self) -> None:
        """Put the best weights in place. Raises TrainingStalledError where the loss did not fall."""
        module = self._objective.module
        if self.best:
            module.load_state_dict(self.best)
        module.eval()
        # A tenth of the steps at either end; fewer steps than this are a few noisy batches, and say nothing.
        if not self._config.require_falling_loss or len(self.losses) < _JUDGED_STEPS:
            return
        window = len(self.losses) // 10
        first, last = float(np.mean(self.losses[:window])), float(np.mean(self.losses[-window:]))
        if not last < first:
            raise TrainingStalledError(
                f"the loss went from {first:.4f} to {last:.4f} over {self.step} steps; "
                "check that rows and items belong together, or change the learning rate "
                f"({self._config.learning_rate})"
            )

    def save(self) -> None:
        """Write the checkpoint, where there is a folder for it."""
        if self._folder is None or not self._ranks.first:
            return
        counters = {
            "step": self.step,
            "losses": self.losses,
            "curve": self.curve.to_dict(),
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
        }
        tensors = checkpoints.grouped(
            model=self._objective.module.state_dict(), optimiser=self.optimiser.state(), best=self.best
        )
        checkpoints.save(self._folder, Checkpoint(self._run, counters, tensors))

    def resume(self) -> int:
        """Continue from this run's checkpoint where there is one; the step it stood at."""
        found = checkpoints.load(self._folder, self._run) if self._folder else None
        if found is None:
            return 0
        self._objective.module.load_state_dict(found.group("model"))
        self.optimiser.load_state(found.group("optimiser"))
        device = next(self._objective.module.parameters()).device
        self.best = {name: value.to(device) for name, value in found.group("best").items()}
        counters = found.counters
        self.step, self.losses = counters["step"], counters["losses"]
        self.curve = LossCurve(**counters["curve"])
        self.best_loss = math.inf if counters["best_loss"] is None else counters["best_loss"]
        self.best_epoch, self.stopped = counters["best_epoch"], counters["stopped"]
        return self.step


def _batches(rows: int, count: int, seed: int, epoch: int, skip: int) -> Iterator[NDArray[np.int64]]:
    """The epoch's shuffled rows in `count` even batches, from the batch `skip` on."""
    order = np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(rows)
    for batch in np.array_split(order, count)[skip:]:
        yield np.sort(batch)  # in order, so that gathering from a mapped file goes forwards


def _rate(step: int, total: int, warmup: float) -> float:
    """The share of the full learning rate at a step: a linear rise, then a cosine down to 0."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    return 0.5 * (1 + math.cos(math.pi * done))
