"""Fine-tuning: a trained model goes on learning from newer rows, at a small rate, for one epoch.

The networks are those that were stored, built by their own classes from their own configuration. The query tower
learns against its frozen candidate tower, so an index of that tower's vectors stays valid; the ranker learns whole.
Transforms are not fitted again: a user or an item that the full training did not meet keeps the out-of-vocabulary row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.features.item_table import ItemTable
from cascade.features.training_set import TrainingSet
from cascade.models.affinity import ItemAffinity
from cascade.models.dlrm import Dlrm
from cascade.models.two_tower import QueryTower, TwoTower
from cascade.training.affinities import row_affinities
from cascade.training.device import choose_device, torch_threads
from cascade.training.dlrm_training import DlrmObjective, DlrmTraining, extra_summary
from cascade.training.errors import TrainingInputError
from cascade.training.impressions import Impressions
from cascade.training.launch import together
from cascade.training.loop import LoopConfig, Progress, TrainingReport, run_name, train
from cascade.training.losses import SampledSoftmax, Temperature
from cascade.training.negatives import item_frequency
from cascade.training.query_rows import QueryRows
from cascade.training.ranks import current
from cascade.training.rows import IntArray, data_summary, require_trainable
from cascade.training.two_tower_training import SAMPLERS, TwoTowerTraining


def _one_epoch(batch: int, rate: float) -> LoopConfig:
    # A loss that is already low need not fall in one epoch; the gates judge the result.
    return LoopConfig(epochs=1, batch=batch, learning_rate=rate, patience=None, require_falling_loss=False)


def _two_tower() -> TwoTowerTraining:
    return TwoTowerTraining(loop=_one_epoch(4096, 5e-4))


def _dlrm() -> DlrmTraining:
    return DlrmTraining(loop=_one_epoch(2048, 2e-4))


@dataclass(frozen=True)
class FineTuning:
    """How a day is learned; what it does not name is as in the full training. docs/fine-tuning.md has the reasons."""

    two_tower: TwoTowerTraining = field(default_factory=_two_tower)
    dlrm: DlrmTraining = field(default_factory=_dlrm)

    def with_rates(self, two_tower: float, dlrm: float) -> FineTuning:
        """The same with other learning rates."""
        return FineTuning(
            replace(self.two_tower, loop=replace(self.two_tower.loop, learning_rate=two_tower)),
            replace(self.dlrm, loop=replace(self.dlrm.loop, learning_rate=dlrm)),
        )


class QueryObjective:
    """The query tower, the loss of both towers' training, and the rows to learn from.

    The candidate tower is frozen, so every item's vector is computed once and not in each step.
    """

    def __init__(
        self,
        model: TwoTower,
        rows: TrainingSet,
        items: ItemTable,
        training: TwoTowerTraining,
        device: torch.device,
    ) -> None:
        self._rows, self._device = rows, device
        vectors = model.candidate.predict(items.categorical, items.continuous, items.image, items.text)
        self._vectors = torch.from_numpy(vectors).to(device)  # [I, D]
        self._frequency = item_frequency(rows.item_position, len(items))
        self._sample = SAMPLERS[training.negatives]
        self._query = QueryRows(rows, model.config, training, device)
        self._ranks = current()
        self.query = model.query.to(device)
        self.softmax = SampledSoftmax(Temperature(training.temperature_of(model.config), learned=False)).to(device)

    @property
    def module(self) -> nn.Module:
        """The query tower."""
        return self.query

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def loss(self, rows: IntArray, rng: np.random.Generator) -> Tensor:
        """The softmax loss of these rows' items among the batch's."""
        candidates = self._sample(self._rows.item_position[rows].astype(np.int64), self._frequency)  # N columns
        mine = self._ranks.share(len(rows))
        features, tokens = self._query.features(rows, rng, mine), self._query.tokens(rows, rng, mine)
        history = None if tokens is None else tokens.tensors(self._vectors[self._int(tokens.items)], self._device)
        queries = self.query(*features, history)  # [B, D]
        items = self._int(candidates.items)
        loss: Tensor = self.softmax(
            queries,
            self._vectors[items],
            self._int(candidates.target[mine]),
            torch.from_numpy(candidates.log_q).to(self._device),
            items if candidates.repeated else None,
            self._query.met(rows[mine], candidates.items, candidates.target[mine], len(self._vectors)),
        )
        return loss * self._ranks.weight(len(queries), len(rows))

    def validation_loss(self) -> float | None:
        """None: the gates judge, on rows that no part of training sees."""
        return None

    def _int(self, array: IntArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def fine_tune_two_tower(
    model: TwoTower,
    rows: TrainingSet,
    items: ItemTable,
    training: TwoTowerTraining | None = None,
    *,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    threads: int | None = 1,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[TwoTower, TrainingReport]:
    """A model whose query tower learned from these rows; its candidate tower is the one given, to the bit.

    `model` is the predecessor and is left as it is. checkpoint_dir: lets an interrupted fine-tuning continue.
    processes: that many train together (`ranks`).
    Raises TrainingInputError, TrainingDivergedError, CheckpointError, TrainingProcessError.
    """
    training = training or FineTuning().two_tower
    require_trainable(rows, items)
    if training.negatives not in SAMPLERS:
        raise TrainingInputError(f"negatives {training.negatives!r} are unknown; use one of {sorted(SAMPLERS)}")
    if processes > 1:
        return together(
            fine_tune_two_tower,
            processes,
            TwoTower,
            model,
            rows,
            items,
            training,
            seed=seed,
            checkpoint_dir=checkpoint_dir,
            device=device,
            threads=threads,
            progress=progress,
        )
    frozen = model.candidate.fingerprint()
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tuned = TwoTower(model.config)
        tuned.load_state_dict(model.state_dict())
        tuned.eval()
        objective = QueryObjective(tuned, rows, items, training, choose_device(device))
        name = run_name(
            kind=QueryTower.KIND,
            parent=_fingerprint(model.query),
            candidates=frozen,
            training=asdict(training),
            seed=seed,
            data=data_summary(rows, items),
        )
        report = train(objective, training.loop, seed=seed, run=name, checkpoint_dir=checkpoint_dir, progress=progress)
    tuned.cpu().eval()
    tuned.query.candidate_fingerprint = tuned.candidate.fingerprint()
    if tuned.query.candidate_fingerprint != frozen:
        raise TrainingInputError("the candidate tower changed while it was frozen; the index would no longer fit")
    return tuned, report


def fine_tune_dlrm(
    model: Dlrm,
    rows: TrainingSet,
    items: ItemTable,
    training: DlrmTraining | None = None,
    *,
    impressions: Impressions | None = None,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    device: str = "auto",
    threads: int | None = 2,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[Dlrm, TrainingReport]:
    """A ranker that learned from these rows, all of it; `model` is the predecessor and is left as it is.

    impressions: as in the full training. checkpoint_dir, processes: as above.
    Raises TrainingInputError, TrainingDivergedError, CheckpointError, TrainingProcessError.
    """
    training = training or FineTuning().dlrm
    require_trainable(rows, items)
    if processes > 1:
        return together(
            fine_tune_dlrm,
            processes,
            Dlrm,
            model,
            rows,
            items,
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
        if impressions is not None and model.affinity is not None:
            impressions = replace(impressions, offset=_added(model.affinity.over(items), impressions.rows))
        tuned = Dlrm(model.config)
        tuned.load_state_dict(model.state_dict())
        # The rows of a day left out judge the result, and must not shape it: what they would fit stays.
        tuned.calibration, tuned.affinity = model.calibration, model.affinity
        objective = DlrmObjective(tuned, rows, None, items, training, choose_device(device), seed, impressions)
        name = run_name(
            kind=Dlrm.KIND,
            parent=model.fingerprint(),
            training=asdict(training),
            seed=seed,
            data=data_summary(rows, items) + extra_summary(impressions, items),
        )
        report = train(objective, training.loop, seed=seed, run=name, checkpoint_dir=checkpoint_dir, progress=progress)
    return tuned.cpu().eval(), report


def _added(affinity: ItemAffinity, rows: TrainingSet) -> NDArray[np.float32]:
    """What an affinity adds to the logits of rows' own items, float32 [R]."""
    items = rows.item_position[:, None]
    return row_affinities(affinity, rows.user, rows.context, rows.histories, rows.timestamp, items)[:, 0]


def _fingerprint(module: nn.Module) -> str:
    from cascade.models.files import fingerprint

    return fingerprint(module.state_dict())
