"""Training the two towers: in-batch negatives, sampled softmax."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.features.item_table import ItemTable
from cascade.features.training_set import TrainingSet
from cascade.models.two_tower import TwoTower, TwoTowerConfig
from cascade.training.device import choose_device, torch_threads
from cascade.training.errors import TrainingInputError
from cascade.training.launch import together
from cascade.training.loop import LoopConfig, Progress, TrainingReport, run_name, train
from cascade.training.losses import SampledSoftmax, Temperature
from cascade.training.negatives import CandidateSampler, in_batch_items, in_batch_rows, item_frequency
from cascade.training.ranks import current
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

SAMPLERS: dict[str, CandidateSampler] = {"items": in_batch_items, "rows": in_batch_rows}


@dataclass(frozen=True)
class TwoTowerTraining:
    """How the towers are trained; docs/models.md says how the defaults were chosen."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=5, batch=1024, learning_rate=2e-3))
    temperature: float = 0.1
    learn_temperature: bool = False
    negatives: Literal["items", "rows"] = "items"
    """columns of the softmax: each item of the batch once, or each row's item"""
    item_id_dropout: float = 0.05
    """share of items a step sees without their id, so that a new item is placed by its content"""
    user_id_dropout: float = 0.3
    """share of rows that lose the user's id beside those masked in the data, against learning users by heart"""
    user_dropout: float = 0.1
    """share of rows that lose all that is known of the user, for visitors nobody knows"""
    validation_rows: int = 8192
    validation_items: int = 50_000
    """at most this many rows and items judge an epoch"""


class TwoTowerObjective:
    """The towers, their loss, and the rows they learn from."""

    def __init__(
        self,
        model: TwoTower,
        train: TrainingSet,
        validation: TrainingSet | None,
        items: ItemTable,
        training: TwoTowerTraining,
        device: torch.device,
        seed: int,
    ) -> None:
        self._train, self._training, self._device = train, training, device
        self._items = ItemTensors(items, device)
        self._frequency = item_frequency(train.item_position, self._items.count)
        self._sample = SAMPLERS[training.negatives]
        self.model = model.to(device)
        self.softmax = SampledSoftmax(Temperature(training.temperature, learned=training.learn_temperature)).to(device)
        self._module = nn.ModuleDict({"towers": self.model, "loss": self.softmax})
        self._validation = None if validation is None or not len(validation.item_position) else validation
        if self._validation is not None:
            self._validation = self._validation.take(sample_rows(self._validation, training.validation_rows, seed))
        self._unknown = unknown_user(train.user)
        self._seed = seed
        self._ranks = current()

    @property
    def module(self) -> nn.Module:
        """Towers and temperature."""
        return self._module

    @property
    def rows(self) -> int:
        """The number of training rows."""
        return len(self._train.item_position)

    def loss(self, rows: IntArray, rng: np.random.Generator) -> Tensor:
        """The softmax loss of these rows' items among the batch's."""
        positives = self._train.item_position[rows].astype(np.int64)  # [B]
        candidates = self._sample(positives, self._frequency)  # N columns
        mine = self._ranks.share(len(rows))
        # The candidate tower runs over each item of the batch once, however many columns it has.
        distinct, place = np.unique(candidates.items, return_inverse=True)
        user = drop_users(
            self._train.user.take(rows), self._training.user_id_dropout, self._training.user_dropout, self._unknown, rng
        )
        queries = self.model.query(
            torch.from_numpy(user.categorical[mine]).to(self._device),
            torch.from_numpy(user.continuous[mine]).to(self._device),
        )  # [B, D]
        part = self._ranks.part(len(distinct))
        item = self._items.take(distinct, self._training.item_id_dropout, rng, part.at)
        vectors = self._ranks.gathered(self.model.candidate(*item), len(distinct))[self._int(place)]  # [N, D]
        loss: Tensor = self.softmax(
            queries,
            vectors,
            self._int(candidates.target[mine]),
            torch.from_numpy(candidates.log_q).to(self._device),
            self._int(candidates.items) if candidates.repeated else None,
        )
        return loss * self._ranks.weight(len(queries), len(rows))

    def validation_loss(self) -> float | None:
        """The cross-entropy of held-out rows' items among the catalog's (or a fixed sample of a large one)."""
        rows = self._validation
        if rows is None:
            return None
        positives = rows.item_position.astype(np.int64)
        columns = self._validation_columns(positives)
        item = self._items.take(columns, 0.0, np.random.default_rng(0))
        vectors = self.model.candidate(*item)  # [N, D]
        target = self._int(np.searchsorted(columns, positives))
        total = 0.0
        for start in range(0, len(positives), 1024):
            part = np.arange(start, min(start + 1024, len(positives)))
            queries = self.model.query(
                gather(rows.user.categorical, part, self._device),
                gather(rows.user.continuous, part, self._device),
            )
            scores = self.softmax.temperature(queries) @ vectors.T
            total += float(F.cross_entropy(scores, target[start : start + 1024], reduction="sum"))
        return total / len(positives)

    def _validation_columns(self, positives: IntArray) -> IntArray:
        """Sorted positions of the items that compete in validation."""
        count, at_most = self._items.count, self._training.validation_items
        if count <= at_most:
            return np.arange(count)
        return np.union1d(np.random.default_rng(self._seed).choice(count, at_most, replace=False), positives)

    def _int(self, array: IntArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def train_two_tower(
    train_rows: TrainingSet,
    validation_rows: TrainingSet | None,
    items: ItemTable,
    network: TwoTowerConfig,
    training: TwoTowerTraining | None = None,
    *,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    threads: int | None = 1,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[TwoTower, TrainingReport]:
    """Train both towers from the start; the model comes back on the CPU, with its lineage set.

    validation_rows: judge each epoch, for early stopping. checkpoint_dir: lets an interrupted training continue.
    threads: of the CPU; None leaves torch's number (docs/models.md says why one is the default).
    processes: that many train together, each with a GPU where there is one (`ranks`).
    Raises TrainingInputError, TrainingDivergedError, TrainingStalledError, CheckpointError, TrainingProcessError.
    """
    training = training or TwoTowerTraining()
    require_trainable(train_rows, items)
    if training.negatives not in SAMPLERS:
        raise TrainingInputError(f"negatives {training.negatives!r} are unknown; use one of {sorted(SAMPLERS)}")
    if processes > 1:
        return together(
            train_two_tower,
            processes,
            TwoTower,
            train_rows,
            validation_rows,
            items,
            network,
            training,
            seed=seed,
            checkpoint_dir=checkpoint_dir,
            device=device,
            threads=threads,
            progress=progress,
        )
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TwoTower(network)
        where = choose_device(device)
        model.candidate.image_scale.fit(torch.from_numpy(np.array(items.image)))
        model.candidate.text_scale.fit(torch.from_numpy(np.array(items.text)))
        objective = TwoTowerObjective(model, train_rows, validation_rows, items, training, where, seed)
        name = run_name(
            network=network.to_dict(), training=asdict(training), seed=seed, data=data_summary(train_rows, items)
        )
        report = train(objective, training.loop, seed=seed, run=name, checkpoint_dir=checkpoint_dir, progress=progress)
    model.cpu()
    model.query.candidate_fingerprint = model.candidate.fingerprint()
    return model, report
