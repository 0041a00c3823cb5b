"""Training the two towers: in-batch negatives, sampled softmax."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.features.item_table import ItemTable
from cascade.features.spec import OOV
from cascade.features.training_set import TrainingSet
from cascade.models.history import HistoryTensors
from cascade.models.two_tower import TwoTower, TwoTowerConfig
from cascade.training.device import choose_device, torch_threads
from cascade.training.errors import TrainingInputError
from cascade.training.launch import together
from cascade.training.loop import LoopConfig, Progress, TrainingReport, run_name, train
from cascade.training.losses import SampledSoftmax, Temperature
from cascade.training.negatives import CandidateSampler, in_batch_items, in_batch_rows, item_frequency
from cascade.training.query_rows import QueryRows, Tokens
from cascade.training.ranks import current
from cascade.training.rows import IntArray, ItemTensors, data_summary, require_trainable, sample_rows

SAMPLERS: dict[str, CandidateSampler] = {"items": in_batch_items, "rows": in_batch_rows}


UNIT_TEMPERATURE = 0.1
"""of vectors of unit length, whose scores lie between -1 and 1"""


@dataclass(frozen=True)
class TwoTowerTraining:
    """How the towers are trained; docs/models.md says how the defaults were chosen."""

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(epochs=5, batch=1024, learning_rate=4e-3, weight_decay=0.5)
    )
    temperature: float | None = None
    """what scores are divided by; None: 0.1 for vectors of unit length, 1 for others, which find their own"""
    learn_temperature: bool = False
    negatives: Literal["items", "rows"] = "items"
    """columns of the softmax: each item of the batch once, or each row's item"""
    item_id_dropout: float = 0.05
    """share of items a step sees without their id, so that a new item is placed by its content"""
    user_id_dropout: float | None = None
    """share of rows that lose the user's id beside those masked in the data, against learning users by heart; None:
    0.3, and 0.8 where the query tower reads histories, which say more and hold for users who join later"""
    user_dropout: float = 0.1
    """share of rows that lose all that is known of the user, for visitors nobody knows"""
    device_dropout: float = 0.0
    """share of rows that lose the device beside those masked in the data"""
    history_dropout: float = 0.1
    """share of rows that lose their whole history, for users who have none"""
    history_truncation: float = 0.1
    """share of rows that keep only their latest events, any number of them, for users who have few"""
    event_dropout: float = 0.0
    """share of events that are hidden in the other rows' histories"""
    exclude_met: bool | None = None
    """whether a row is not held against items its user has met: the filter hides them anyway; None: where hardly any
    row is of such an item"""
    validation_rows: int = 8192
    validation_items: int = 50_000
    """at most this many rows and items judge an epoch"""

    def temperature_of(self, network: TwoTowerConfig) -> float:
        """The temperature for a network's vectors."""
        if self.temperature is not None:
            return self.temperature
        return UNIT_TEMPERATURE if network.normalise else 1.0

    def user_ids_dropped(self, network: TwoTowerConfig) -> float:
        """The share of rows without their user's id, for a network."""
        if self.user_id_dropout is not None:
            return self.user_id_dropout
        return 0.8 if network.mode == "session" else 0.3


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
        temperature = Temperature(training.temperature_of(model.config), learned=training.learn_temperature)
        self.softmax = SampledSoftmax(temperature).to(device)
        self._module = nn.ModuleDict({"towers": self.model, "loss": self.softmax})
        self._validation = None if validation is None or not len(validation.item_position) else validation
        if self._validation is not None:
            self._validation = self._validation.take(sample_rows(self._validation, training.validation_rows, seed))
        self._query = QueryRows(train, model.config, training, device)
        self._judged = None if self._validation is None else QueryRows(self._validation, model.config, training, device)
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
        features, tokens = self._query.features(rows, rng, mine), self._query.tokens(rows, rng, mine)
        # The candidate tower runs over each item of the batch once, as candidate and as event, however often it is met.
        met = candidates.items if tokens is None else np.concatenate([candidates.items, tokens.items])
        distinct, place = np.unique(met, return_inverse=True)
        part = self._ranks.part(len(distinct))
        item = self._items.take(distinct, self._training.item_id_dropout, rng, part.at)
        every = self._ranks.gathered(self.model.candidate(*item), len(distinct)).index_select(0, self._int(place))
        vectors = every[: len(candidates.items)]  # [N, D]
        history = None if tokens is None else tokens.tensors(every[len(candidates.items) :], self._device)
        queries = self.model.query(*features, history)  # [B, D]
        loss: Tensor = self.softmax(
            queries,
            vectors,
            self._int(candidates.target[mine]),
            torch.from_numpy(candidates.log_q).to(self._device),
            self._int(candidates.items) if candidates.repeated else None,
            self._query.met(rows[mine], candidates.items, candidates.target[mine], self._items.count),
        )
        return loss * self._ranks.weight(len(queries), len(rows))

    def validation_loss(self) -> float | None:
        """The cross-entropy of held-out rows' items among the catalog's (or a fixed sample of a large one)."""
        rows = self._validation
        if rows is None or self._judged is None:
            return None
        positives = rows.item_position.astype(np.int64)
        columns = self._validation_columns(positives)
        vectors = self._vectors(columns)  # [N, D]
        target = self._int(np.searchsorted(columns, positives))
        total = 0.0
        for start in range(0, len(positives), 1024):
            part = np.arange(start, min(start + 1024, len(positives)))
            features, tokens = self._judged.judged(part)
            queries = self.model.query(*features, self._history(tokens))
            scores = self.softmax.temperature(queries) @ vectors.T
            met = self._judged.met(part, columns, np.searchsorted(columns, positives[part]), self._items.count)
            if met is not None:
                scores = scores.masked_fill(met, -torch.inf)
            total += float(F.cross_entropy(scores, target[start : start + 1024], reduction="sum"))
        return total / len(positives)

    def _history(self, tokens: Tokens | None) -> HistoryTensors | None:
        return None if tokens is None else tokens.tensors(self._vectors(tokens.items), self._device)

    def _vectors(self, positions: IntArray) -> Tensor:
        """Items through the candidate tower, nothing hidden: float [N, D]."""
        distinct, place = np.unique(positions, return_inverse=True)
        item = self._items.take(distinct, 0.0, np.random.default_rng(0))
        vectors: Tensor = self.model.candidate(*item)[self._int(place)]
        return vectors

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
        model.candidate.start(torch.from_numpy(log_popularity(train_rows, items, network.item_cardinalities[0])))
        objective = TwoTowerObjective(model, train_rows, validation_rows, items, training, where, seed)
        name = run_name(
            network=network.to_dict(), training=asdict(training), seed=seed, data=data_summary(train_rows, items)
        )
        report = train(objective, training.loop, seed=seed, run=name, checkpoint_dir=checkpoint_dir, progress=progress)
    model.cpu()
    model.query.candidate_fingerprint = model.candidate.fingerprint()
    return model, report


def log_popularity(rows: TrainingSet, items: ItemTable, ids: int) -> NDArray[np.float32]:
    """The log of how often each row of the item id's table is met, against the items' mean: float32 [ids].

    The out-of-vocabulary row, of items that nobody has met yet, is at the mean.
    """
    counts = np.bincount(items.categorical[rows.item_position, 0], minlength=ids)
    logs = np.log1p(counts).astype(np.float32)
    logs -= logs[OOV + 1 :].mean() if ids > 1 else 0
    logs[OOV] = 0
    return logs
