"""Training the ranker: clicks against sampled negatives, and what was shown in lists where that was logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.features.item_table import ItemTable
from cascade.features.spec import (
    CONTEXT_CONTINUOUS,
    EVENT_TYPES,
    HISTORY_LENGTH,
    ITEM_CONTINUOUS,
    USER_CONTINUOUS,
)
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.models.matches import EventHistories
from cascade.models.two_tower import Mode
from cascade.training.calibration import calibrate
from cascade.training.device import choose_device, torch_threads
from cascade.training.dlrm_pairs import DlrmPairs
from cascade.training.errors import TrainingInputError
from cascade.training.histories import hidden_events, ranker_histories, require_histories
from cascade.training.impressions import Impressions, PositionBias
from cascade.training.launch import together
from cascade.training.loop import LoopConfig, Progress, TrainingReport, run_name, train
from cascade.training.losses import AlikeLoss, ClickLoss
from cascade.training.negatives import (
    AlikeNegatives,
    Doubles,
    Floats,
    InBatchNegatives,
    MixedNegatives,
    NegativeSampler,
    UniformNegatives,
    item_frequency,
)
from cascade.training.ranks import Part, Ranks, current
from cascade.training.rows import (
    IntArray,
    ItemTensors,
    data_summary,
    drop_users,
    gather,
    kinds_of,
    require_trainable,
    sample_rows,
    unknown_user,
)

SAMPLERS: dict[str, Callable[[DlrmTraining, Doubles], NegativeSampler]] = {
    "in_batch": lambda training, frequency: InBatchNegatives(),
    "mixed": lambda training, frequency: MixedNegatives(frequency, training.drawn_negatives, training.drawn_by_power),
    "uniform": lambda training, frequency: UniformNegatives(),
}
"""By name: of a training and the items' share of its rows."""


@dataclass(frozen=True)
class DlrmTraining:
    """How the ranker is trained; docs/models.md says how the defaults were chosen."""

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(epochs=4, batch=1024, learning_rate=3e-3, weight_decay=0.5)
    )
    negatives: Literal["in_batch", "mixed", "uniform"] = "in_batch"
    negatives_per_click: int = 5
    drawn_negatives: int = 1
    """of those, how many `mixed` draws from the catalog"""
    drawn_by_power: float = 0.5
    """of popularity, by which `mixed` draws them: 0 any item, 1 as clicks are"""
    alike_share: float = 0.5
    """of a batch's clicks, how many meet items of their own kind alone, where items have kinds, and no more of them
    than a batch fills; the others of any"""
    alike_weight: float = 0.3
    """what such a click counts for beside the others, as one pair of click and item"""
    correct_popularity: bool = True
    """answer as if negatives had been drawn uniformly, so that popularity counts in the ranking"""
    item_id_dropout: float = 0.2
    """share of rows that do not see their item's id, so that a new item is scored by its content"""
    user_id_dropout: float | None = None
    """share of clicks that lose the user's id beside those masked in the data, against learning users by heart; None:
    0.4, and 0.9 where the ranker reads histories, which say more and hold for users who join later"""
    user_dropout: float = 0.1
    """share of clicks that lose all that is known of the user but the history, for visitors nobody knows"""
    history_dropout: float = 0.1
    """share of clicks that lose the whole history, where the ranker reads it"""
    history_truncation: float = 0.1
    """share of clicks that keep the newest events of their history alone, any number of them"""
    validation_rows: int = 8192
    """at most this many clicks judge an epoch, and calibrate the model"""
    calibrate: bool = True
    """make the probabilities hold on the validation rows (training/calibration.py)"""

    def user_ids_dropped(self, network: DlrmConfig) -> float:
        """The share of clicks without their user's id, for a network."""
        if self.user_id_dropout is not None:
            return self.user_id_dropout
        return 0.9 if network.history_length else 0.4


def dlrm_config(
    query: Mode, user: UserTransform, item: ItemTransform, context: ContextTransform, *, attention_heads: int = 0
) -> DlrmConfig:
    """The ranker for these transforms; it reads histories in the mode in which rows have them, and only then has heads
    of target attention."""
    config = DlrmConfig(
        user.cardinalities,
        item.cardinalities,
        context.cardinalities,
        len(USER_CONTINUOUS),
        len(ITEM_CONTINUOUS),
        len(CONTEXT_CONTINUOUS),
    )
    if query != "session":
        return config
    return replace(
        config,
        history_length=HISTORY_LENGTH,
        history_event_types=len(EVENT_TYPES) + 1,
        attention_heads=attention_heads,
    )


@dataclass(frozen=True)
class Dropout:
    """Shares of rows that lose the user's id, all of the user, the item's id, the history, and a part of it."""

    user_ids: float = 0.0
    users: float = 0.0
    item_ids: float = 0.0
    histories: float = 0.0
    events: float = 0.0


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
        impressions: Impressions | None = None,
    ) -> None:
        self._train, self._training, self._device = train, training, device
        self._weights = None if train.weight is None else row_weights(train.weight)
        self._impressions = impressions if impressions is not None and len(impressions) else None
        require_histories(model.config, train, validation, None if impressions is None else impressions.rows)
        self._items, self._table = ItemTensors(items, device), items
        frequency = item_frequency(train.item_position, self._items.count)
        self._sampler = SAMPLERS[training.negatives](training, frequency)
        self._log_lift = self._corrected(self._sampler, frequency)  # [I]
        self.model = model.to(device)
        self._pairs = DlrmPairs(self.model).to(device)
        # Without a click among them, being shown would explain everything.
        biased = self._impressions is not None and bool(self._impressions.clicked.any())
        self._bias = PositionBias().to(device) if biased else None
        self._click_loss, self._alike_loss = ClickLoss(), AlikeLoss()
        # As many kinds as a batch's clicks fill groups of, or most clicks would be alone.
        groups = training.alike_share * training.loop.batch / (1 + training.negatives_per_click)
        kinds = kinds_of(items, frequency, groups)
        self._alike = None if kinds is None else AlikeNegatives(kinds)
        self._alike_lift = self._log_lift if self._alike is None else self._corrected(self._alike, frequency)
        self._validation = None if validation is None or not len(validation.item_position) else validation
        if self._validation is not None:
            self._validation = self._validation.take(sample_rows(self._validation, training.validation_rows, seed))
        self._unknown = unknown_user(train.user)
        self._seed = seed
        self._ranks = current()
        if self._bias is not None and self._impressions is not None:
            self._start_bias(self._bias, self._impressions)

    @property
    def module(self) -> nn.Module:
        """The network, and what only its training has beside it."""
        return self.model if self._bias is None else nn.ModuleList([self.model, self._bias])

    @property
    def rows(self) -> int:
        """The number of clicks."""
        return len(self._train.item_position)

    def loss(self, rows: IntArray, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of these clicks and their negatives, some of them among items of a kind, and of a share of what
        was shown."""
        t = self._training
        users = t.user_ids_dropped(self.model.config)
        dropout = Dropout(users, t.user_dropout, t.item_id_dropout, t.history_dropout, t.history_truncation)
        apart = 0 if self._alike is None else round(t.alike_share * len(rows))
        logits, labels, items, weights, whole = self._clicks(
            self._train, rows[apart:], self._sampler, dropout, rng, self._ranks, self._weights
        )
        log_lift = self._float(self._log_lift[items])
        if self._impressions is not None:
            shown = self._shown_rows(len(self._impressions), rows, rng)
            drawn, clicked, weight, all_weights = self._shown(self._impressions.take(shown), dropout, rng)
            logits, labels, weights = (
                torch.cat(both) for both in ((logits, drawn), (labels, clicked), (weights, weight))
            )
            # Shown items were chosen by a recommender, not drawn by the sampler: nothing to correct.
            log_lift = torch.cat([log_lift, torch.zeros_like(drawn)])
            whole += all_weights
        loss: Tensor = self._click_loss(logits, labels, log_lift, weights)
        if self._ranks.world > 1:
            loss = loss * self._ranks.weight(float(weights.sum()), whole)
        if self._alike is not None and apart:
            loss = loss + t.alike_weight * self._among_alike(rows[:apart], self._alike, dropout, rng)
        return loss

    def _corrected(self, sampler: NegativeSampler, frequency: Doubles) -> Floats:
        """What is taken off the logits of items that a sampler draws, float32 [I]."""
        log_lift = sampler.log_lift(frequency, self._training.negatives_per_click)
        return log_lift if self._training.correct_popularity else np.zeros_like(log_lift)

    def _among_alike(
        self, rows: IntArray, sampler: NegativeSampler, dropout: Dropout, rng: np.random.Generator
    ) -> Tensor:
        """Cross-entropy of each of these clicks among the items of its group."""
        side = 1 + self._training.negatives_per_click
        logits, labels, items, weights, _ = self._clicks(
            self._train, rows, sampler, dropout, rng, self._ranks, self._weights
        )
        log_lift = self._float(self._alike_lift[items])
        loss: Tensor = self._alike_loss(*(part.view(-1, side) for part in (logits, labels, log_lift, weights)))
        if self._ranks.world > 1:
            whole = len(rows) if self._weights is None else float(self._weights[rows].sum())
            loss = loss * self._ranks.weight(float((labels * weights).sum()), whole)
        return loss

    def _start_bias(self, bias: PositionBias, impressions: Impressions) -> None:
        """Fit it to the network as it is, by a sample, alike in every process."""
        rng = np.random.default_rng(self._seed)
        some = impressions.take(np.sort(rng.permutation(len(impressions))[: self._training.validation_rows]))
        with torch.no_grad():
            logits = self._logits_of(some, Dropout(), rng, Ranks().part(len(some)))  # with what others add
        bias.start(logits.cpu().numpy(), some)

    def _shown(
        self, shown: Impressions, dropout: Dropout, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Logits, labels and weights of these impressions, float [N] each: those of this process.

        Last the sum of all processes' weights.
        """
        part = self._ranks.part(len(shown))
        logits = self._logits_of(shown, dropout, rng, part)
        if self._bias is not None:
            logits = logits + self._bias(torch.from_numpy(shown.position[part.at].astype(np.int64)).to(self._device))
        labels = shown.clicked[part.at].astype(np.float32)
        weights = shown.weight[part.at] * part.only(np.ones(len(shown), bool)).astype(np.float32)
        return logits, self._float(labels), self._float(weights), float(shown.weight.sum(dtype=np.float64))

    def _logits_of(self, shown: Impressions, dropout: Dropout, rng: np.random.Generator, part: Part) -> Tensor:
        """The logits of impressions as they are served, float [N]: the network's, and what others add."""
        at, items = np.arange(len(shown)), shown.rows.item_position.astype(np.int64)
        logits = self._logits(shown.rows, at, at[:, None], items[:, None], dropout, rng, part).flatten()
        return logits if shown.offset is None else logits + self._float(shown.offset[part.at])

    def validation_loss(self) -> float | None:
        """The cross-entropy of held-out clicks and uniform negatives, the same after every epoch."""
        rows = self._validation
        if rows is None:
            return None
        rng = np.random.default_rng(self._seed)
        total = 0.0
        for start in range(0, len(rows.item_position), 1024):
            part = np.arange(start, min(start + 1024, len(rows.item_position)))
            # one process judges, whatever the number that train
            logits, labels, _, usable, _ = self._clicks(rows, part, UniformNegatives(), Dropout(), rng, Ranks())
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
        ranks: Ranks,
        weights: Floats | None = None,
    ) -> tuple[Tensor, Tensor, IntArray, Tensor, float]:
        """Logits, labels, items and weights of clicks with their negatives, flat [pairs]: those of this process.

        weights: of all rows [R], which a click and its negatives have alike, so that its odds stay what they are
        Last the sum of all processes' weights.
        """
        positives = source.item_position[rows].astype(np.int64)  # [B]
        squares = sampler.squares(positives, self._training.negatives_per_click, self._items.count, rng)
        part = ranks.part(len(squares.clicks))
        logits = self._logits(source, rows, squares.clicks, squares.items, dropout, rng, part)
        flags = squares.labels[part.at], part.only(squares.usable)
        items = np.broadcast_to(squares.items[part.at, None], flags[0].shape)
        labels, usable = (self._float(one.astype(np.float32)) for one in flags)
        whole = float(squares.usable.sum())
        if weights is not None:
            by_click = weights[rows][squares.clicks]  # [S, M]
            usable = usable * self._float(by_click[part.at])[:, :, None]
            whole = float((squares.usable.sum(2) * by_click).sum())
        return logits.flatten(), labels.flatten(), items.ravel(), usable.flatten(), whole

    def _logits(
        self,
        source: TrainingSet,
        rows: IntArray,
        clicks: IntArray,
        items: IntArray,
        dropout: Dropout,
        rng: np.random.Generator,
        part: Part,
    ) -> Tensor:
        """Users and contexts of these rows, by place int64 [S, M], with items int64 [S, N] → float [S, M, N].

        Of the part's squares alone; random numbers are drawn for all.
        """
        user = drop_users(source.user.take(rows), dropout.user_ids, dropout.users, self._unknown, rng)
        context, at = source.context.take(rows), clicks[part.at].ravel()
        histories = self._histories(source, rows, dropout, rng)
        columns = user.categorical, user.continuous, context.categorical, context.continuous
        who, numbers, where, moment = (gather(one, at, self._device) for one in columns)
        events = None if histories is None else histories.take(at).tensors(self._device)
        users = self._pairs.users(who, numbers, where, moment, histories=events)
        only = part.at if isinstance(part.at, slice) else np.arange(items.size).reshape(items.shape)[part.at].ravel()
        drawn = self._pairs.items(*self._items.take(items.ravel(), dropout.item_ids, rng, only))
        squares = len(clicks[part.at])
        logits: Tensor = self._pairs(users.grid(squares), drawn.grid(squares))
        return logits

    def _histories(
        self, source: TrainingSet, rows: IntArray, dropout: Dropout, rng: np.random.Generator
    ) -> EventHistories | None:
        """What the ranker reads of these rows' histories, some of it hidden; None where it reads none."""
        config = self.model.config
        of_rows = None if source.histories is None else source.histories.take(rows)
        read = ranker_histories(config, of_rows, source.timestamp[rows], self._table)
        if read is None or not (dropout.histories or dropout.events):
            return read
        hidden = hidden_events(read.there, dropout.histories, dropout.events, rng)
        return replace(read, there=read.there & ~hidden)

    def _shown_rows(self, count: int, rows: IntArray, rng: np.random.Generator) -> IntArray:
        """As large a share of what was shown as the batch is of the clicks."""
        return np.sort(rng.integers(0, count, max(1, round(count * len(rows) / self.rows))))

    def _float(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def row_weights(weights: Floats) -> Floats:
    """The same with a mean of 1, so that they change what counts and not how fast is learned. Raises
    TrainingInputError on weights that are not positive numbers."""
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise TrainingInputError(f"weights range from {weights.min()} to {weights.max()}; give each row more than 0")
    scaled: Floats = (weights / weights.mean(dtype=np.float64)).astype(np.float32)
    return scaled


def extra_summary(impressions: Impressions | None, items: ItemTable) -> list[float]:
    """Numbers that change when what is learned beside the clicks does; none where there is nothing."""
    if impressions is None:
        return []
    clicked, position = int(impressions.clicked.sum()), int(impressions.position.sum())
    return [*data_summary(impressions.rows, items), clicked, position, float(impressions.weight.sum())]


def train_dlrm(
    train_rows: TrainingSet,
    validation_rows: TrainingSet | None,
    items: ItemTable,
    network: DlrmConfig,
    training: DlrmTraining | None = None,
    *,
    impressions: Impressions | None = None,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    threads: int | None = 1,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[Dlrm, TrainingReport]:
    """Train the ranker from the start; the model comes back on the CPU.

    validation_rows: judge each epoch, for early stopping, and calibrate the model.
    impressions: what was shown in lists, clicked or not, learned from beside the clicks.
    checkpoint_dir: lets an interrupted training continue.
    threads: of the CPU; None leaves torch's number (docs/models.md says why one is the default).
    processes: that many train together, each with a GPU where there is one (`ranks`).
    Raises TrainingInputError, TrainingDivergedError, TrainingStalledError, CheckpointError, TrainingProcessError.
    """
    training = training or DlrmTraining()
    require_trainable(train_rows, items)
    if training.negatives not in SAMPLERS:
        raise TrainingInputError(f"negatives {training.negatives!r} are unknown; use one of {sorted(SAMPLERS)}")
    if processes > 1:
        return together(
            train_dlrm,
            processes,
            Dlrm,
            train_rows,
            validation_rows,
            items,
            network,
            training,
            impressions=impressions,
            seed=seed,
            checkpoint_dir=checkpoint_dir,
            device=device,
            threads=threads,
            progress=progress,
        )
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Dlrm(network)
        where = choose_device(device)
        model.image_scale.fit(torch.from_numpy(np.array(items.image)))
        model.text_scale.fit(torch.from_numpy(np.array(items.text)))
        objective = DlrmObjective(model, train_rows, validation_rows, items, training, where, seed, impressions)
        name = run_name(
            network=network.to_dict(),
            training=asdict(training),
            seed=seed,
            data=data_summary(train_rows, items) + extra_summary(impressions, items),
        )
        report = train(objective, training.loop, seed=seed, run=name, checkpoint_dir=checkpoint_dir, progress=progress)
        model = model.cpu()
        if training.calibrate and validation_rows is not None and len(validation_rows) and current().first:
            judged = validation_rows.take(sample_rows(validation_rows, training.validation_rows, seed))
            # Other negatives than the epochs were judged by.
            model.calibration, calibration = calibrate(model, judged, items, training.negatives_per_click, seed + 1)
            report = replace(report, calibration=calibration)
    return model, report
