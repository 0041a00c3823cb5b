"""Training the ranker: clicks against sampled negatives, and real impressions without a click where there are any."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.features.item_table import ItemTable
from cascade.features.training_set import TrainingSet
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.training.calibration import calibrate
from cascade.training.device import choose_device, torch_threads
from cascade.training.dlrm_pairs import DlrmPairs
from cascade.training.errors import TrainingInputError
from cascade.training.loop import LoopConfig, Progress, TrainingReport, run_name, train
from cascade.training.losses import ClickLoss
from cascade.training.negatives import (
    InBatchNegatives,
    NegativeSampler,
    UniformNegatives,
    item_frequency,
)
from cascade.training.rows import (
    IntArray,
    ItemTensors,
    data_summary,
    drop_users,
    gather,
    require_trainable,
    sample_rows,
    unknown_user,
)

SAMPLERS: dict[str, NegativeSampler] = {"in_batch": InBatchNegatives(), "uniform": UniformNegatives()}


@dataclass(frozen=True)
class DlrmTraining:
    """How the ranker is trained; docs/models.md says how the defaults were chosen."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=2, batch=1024, learning_rate=2e-3))
    negatives: Literal["in_batch", "uniform"] = "in_batch"
    negatives_per_click: int = 5
    correct_popularity: bool = True
    """answer as if negatives had been drawn uniformly, so that popularity counts in the ranking"""
    item_id_dropout: float = 0.05
    """share of rows that do not see their item's id, so that a new item is scored by its content"""
    user_id_dropout: float = 0.4
    """share of clicks that lose the user's id beside those masked in the data, against learning users by heart"""
    user_dropout: float = 0.1
    """share of clicks that lose all that is known of the user, for visitors nobody knows"""
    validation_rows: int = 8192
    """at most this many clicks judge an epoch, and calibrate the model"""
    calibrate: bool = True
    """make the probabilities hold on the validation rows (training/calibration.py)"""


@dataclass(frozen=True)
class Dropout:
    """Shares of rows that lose the user's id, all of the user, and the item's id."""

    user_ids: float = 0.0
    users: float = 0.0
    item_ids: float = 0.0


class DlrmObjective:
    """The ranker, its loss, and the rows it learns from."""

    def __init__(
        self,
        model: Dlrm,
        train: TrainingSet,
        validation: TrainingSet | None,
        items: ItemTable,
        training: DlrmTraining,
        device: torch.device,
        seed: int,
        unclicked: TrainingSet | None = None,
    ) -> None:
        self._train, self._unclicked, self._training, self._device = train, unclicked, training, device
        self._items = ItemTensors(items, device)
        self._sampler = SAMPLERS[training.negatives]
        log_lift = self._sampler.log_lift(item_frequency(train.item_position, self._items.count))
        self._log_lift = log_lift if training.correct_popularity else np.zeros_like(log_lift)  # [I]
        self.model = model.to(device)
        self._pairs = DlrmPairs(self.model).to(device)
        self._click_loss = ClickLoss()
        self._validation = None if validation is None or not len(validation.item_position) else validation
        if self._validation is not None:
            self._validation = self._validation.take(sample_rows(self._validation, training.validation_rows, seed))
        self._unknown = unknown_user(train.user)
        self._seed = seed

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.model

    @property
    def rows(self) -> int:
        """The number of clicks."""
        return len(self._train.item_position)

    def loss(self, rows: IntArray, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of these clicks and their negatives, and of a share of the unclicked impressions."""
        t = self._training
        dropout = Dropout(t.user_id_dropout, t.user_dropout, t.item_id_dropout)
        logits, labels, items, usable = self._clicks(self._train, rows, self._sampler, dropout, rng)
        log_lift = self._float(self._log_lift[items])
        if self._unclicked is not None and len(self._unclicked.item_position):
            shown = self._shown_rows(len(self._unclicked.item_position), rows, rng)
            shown_items = self._unclicked.item_position[shown].astype(np.int64)
            zeros = torch.zeros(len(shown), device=self._device)
            places = np.arange(len(shown))[:, None]
            drawn = self._logits(self._unclicked, shown, places, shown_items[:, None], dropout, rng)
            logits = torch.cat([logits, drawn.flatten()])
            # Shown items were chosen by a recommender, not drawn by the sampler: nothing to correct.
            labels, log_lift = torch.cat([labels, zeros]), torch.cat([log_lift, zeros])
            usable = torch.cat([usable, torch.ones_like(zeros)])
        loss: Tensor = self._click_loss(logits, labels, log_lift, usable)
        return loss

    def validation_loss(self) -> float | None:
        """The cross-entropy of held-out clicks and uniform negatives, the same after every epoch."""
        rows = self._validation
        if rows is None:
            return None
        rng = np.random.default_rng(self._seed)
        total = 0.0
        for start in range(0, len(rows.item_position), 1024):
            part = np.arange(start, min(start + 1024, len(rows.item_position)))
            logits, labels, _, usable = self._clicks(rows, part, SAMPLERS["uniform"], Dropout(), rng)
            loss = self._click_loss(logits, labels, torch.zeros_like(logits), usable)
            total += float(loss) * len(part)
        return total / len(rows.item_position)

    def _clicks(
        self,
        source: TrainingSet,
        rows: IntArray,
        sampler: NegativeSampler,
        dropout: Dropout,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor, IntArray, Tensor]:
        """Logits, labels, items and weights of clicks with their negatives, flat [pairs]."""
        positives = source.item_position[rows].astype(np.int64)  # [B]
        squares = sampler.squares(positives, self._training.negatives_per_click, self._items.count, rng)
        logits = self._logits(source, rows, squares.clicks, squares.items, dropout, rng)
        items = np.broadcast_to(squares.items[:, None], squares.labels.shape)
        labels, usable = (self._float(part.astype(np.float32)) for part in (squares.labels, squares.usable))
        return logits.flatten(), labels.flatten(), items.ravel(), usable.flatten()

    def _logits(
        self,
        source: TrainingSet,
        rows: IntArray,
        clicks: IntArray,
        items: IntArray,
        dropout: Dropout,
        rng: np.random.Generator,
    ) -> Tensor:
        """Users and contexts of these rows, by place int64 [S, M], with items int64 [S, N] → float [S, M, N]."""
        user = drop_users(source.user.take(rows), dropout.user_ids, dropout.users, self._unknown, rng)
        context, at = source.context.take(rows), clicks.ravel()
        users = self._pairs.users(
            *(gather(one, at, self._device) for one in (user.categorical, user.continuous)),
            *(gather(one, at, self._device) for one in (context.categorical, context.continuous)),
        )
        drawn = self._pairs.items(*self._items.take(items.ravel(), dropout.item_ids, rng))
        logits: Tensor = self._pairs(users.grid(len(clicks)), drawn.grid(len(items)))
        return logits

    def _shown_rows(self, count: int, rows: IntArray, rng: np.random.Generator) -> IntArray:
        """As large a share of the unclicked impressions as the batch is of the clicks."""
        return np.sort(rng.integers(0, count, max(1, round(count * len(rows) / self.rows))))

    def _float(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def train_dlrm(
    train_rows: TrainingSet,
    validation_rows: TrainingSet | None,
    items: ItemTable,
    network: DlrmConfig,
    training: DlrmTraining | None = None,
    *,
    unclicked: TrainingSet | None = None,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    threads: int | None = 1,
    progress: Progress | None = None,
) -> tuple[Dlrm, TrainingReport]:
    """Train the ranker from the start; the model comes back on the CPU.

    validation_rows: judge each epoch, for early stopping, and calibrate the model.
    unclicked: real impressions without a click, rows of the item that was shown.
    checkpoint_dir: lets an interrupted training continue.
    threads: of the CPU; None leaves torch's number (docs/models.md says why one is the default).
    Raises TrainingInputError, TrainingDivergedError, TrainingStalledError, CheckpointError.
    """
    training = training or DlrmTraining()
    require_trainable(train_rows, items)
    if training.negatives not in SAMPLERS:
        raise TrainingInputError(f"negatives {training.negatives!r} are unknown; use one of {sorted(SAMPLERS)}")
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Dlrm(network)
        where = choose_device(device)
        model.image_scale.fit(torch.from_numpy(np.array(items.image)))
        model.text_scale.fit(torch.from_numpy(np.array(items.text)))
        objective = DlrmObjective(model, train_rows, validation_rows, items, training, where, seed, unclicked)
        extra = [] if unclicked is None else data_summary(unclicked, items)
        name = run_name(
            network=network.to_dict(),
            training=asdict(training),
            seed=seed,
            data=data_summary(train_rows, items) + extra,
        )
        report = train(objective, training.loop, seed=seed, run=name, checkpoint_dir=checkpoint_dir, progress=progress)
        model = model.cpu()
        if training.calibrate and validation_rows is not None and len(validation_rows):
            judged = validation_rows.take(sample_rows(validation_rows, training.validation_rows, seed))
            # Other negatives than the epochs were judged by.
            model.calibration, calibration = calibrate(model, judged, items, training.negatives_per_click, seed + 1)
            report = replace(report, calibration=calibration)
    return model, report
