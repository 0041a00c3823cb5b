"""What was shown in lists, clicked or not, as rows that the ranker learns from beside the interactions.

An item further down a list is clicked less for standing there. `PositionBias` takes that up in training alone, as the
shallow tower of Zhao et al. 2019 ("Recommending what video to watch next") does: what it adds is 0 at the first
place, and the served network never sees it, which is the same as asking of every item how it would do at the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]
from torch import Tensor, nn

from cascade.features.files import read_array, write_array
from cascade.features.history import histories_of_rows
from cascade.features.item_table import ItemTable
from cascade.features.source import InteractionSource
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.training.errors import TrainingInputError

_ROWS = "rows"
_COLUMNS: dict[str, type[np.generic]] = {"clicked": np.bool_, "position": np.int32, "propensity": np.float32}

PLACES = 100
"""places told apart; those further down count as the last"""
MOST_WEIGHT = 10.0
"""of one row: an item shown by a rare chance must not outweigh the rest of its batch"""


@dataclass(frozen=True, eq=False)
class Impressions:
    """N items shown.

    rows: who saw it, in which context, which item, when [N]
    clicked: bool [N]
    position: int32 [N], from 0 for the first place; -1 where it is not known
    propensity: float32 [N] in (0, 1], the chance with which the item came to its place; 1 where no chance was in play
    offset: float32 [N], what others than the network add to its logits (models/affinity.py), which it is not to learn
        again; None: nothing
    Raises TrainingInputError on columns that do not fit.
    """

    rows: TrainingSet
    clicked: NDArray[np.bool_]
    position: NDArray[np.int32]
    propensity: NDArray[np.float32]
    offset: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.rows), len(self.clicked), len(self.position), len(self.propensity)}
        lengths |= set() if self.offset is None else {len(self.offset)}
        if len(lengths) != 1:
            raise TrainingInputError(f"impressions have columns of {sorted(lengths)} rows; give one value a row")
        if len(self) and not (self.propensity.min() > 0 and self.propensity.max() <= 1):
            raise TrainingInputError(
                f"propensities range from {self.propensity.min()} to {self.propensity.max()}; "
                "give chances above 0 and up to 1"
            )

    @classmethod
    def unclicked(cls, rows: TrainingSet) -> Impressions:
        """Rows shown without a click, of which no more is known."""
        count = len(rows)
        nowhere = np.full(count, -1, np.int32)
        return cls(rows, np.zeros(count, bool), nowhere, np.ones(count, np.float32))

    @classmethod
    def read(
        cls,
        path: Path,
        user: UserTransform,
        context: ContextTransform,
        items: ItemTable,
        source: InteractionSource | None = None,
    ) -> Impressions:
        """From the file that `cascade.features.shown_rows` wrote; rows of items the table lacks are left out.

        source: where what the users did before is read, for a ranker that reads it; without, the rows have none
        Positions count from 0, as they were logged. Raises FeatureFileMissingError, FeatureInputError.
        """
        histories = None if source is None else histories_of_rows(path, source, items.item_ids)
        rows = TrainingSet.build(path, user, context, items, histories=histories)
        told = pq.read_table(path, columns=["item_id", "position", "propensity", "clicked"])
        told = told.filter(pa.array(items.positions(told.column("item_id")) >= 0))
        columns = (told.column(name).to_numpy() for name in ("clicked", "position", "propensity"))
        clicked, position, propensity = columns
        return cls(rows, clicked.astype(bool), position.astype(np.int32), propensity.astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write rows and columns into `folder`, which is there."""
        self.rows.save(folder / _ROWS)
        for name in _COLUMNS:
            write_array(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Impressions:
        """What `save` wrote, memory-mapped. Raises FeatureFileError's subclasses."""
        rows = TrainingSet.load(folder / _ROWS)
        columns = {
            name: read_array(folder / f"{name}.npy", dtype, (len(rows),), mmap=True) for name, dtype in _COLUMNS.items()
        }
        return cls(rows, **columns)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: NDArray[np.integer]) -> Impressions:
        """The given ones, in the given order."""
        offset = None if self.offset is None else self.offset[at]
        return Impressions(self.rows.take(at), self.clicked[at], self.position[at], self.propensity[at], offset)

    @property
    def weight(self) -> NDArray[np.float32]:
        """1 / propensity, bounded: what chance showed seldom stands for what was not shown."""
        weight: NDArray[np.float32] = np.minimum(1.0 / self.propensity, MOST_WEIGHT).astype(np.float32)
        return weight


class PositionBias(nn.Module):
    """What a place adds to the log-odds of a click, and what being shown at all adds.

    Items were shown because a recommender took them for likely, and few of a list are clicked: the odds among shown
    items are not those among a click and random items, which the network gives. `shown` takes up the difference.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown = nn.Parameter(torch.zeros(()))
        self.by_place = nn.Parameter(torch.zeros(PLACES - 1))

    def start(self, logits: NDArray[np.float32], impressions: Impressions) -> None:
        """What fits these impressions best, given the network's logits of them [N]: a fine-tuning's few small steps
        would not get there. Each place is drawn towards the first by a prior of about four clicks."""
        place = np.clip(impressions.position, 0, PLACES - 1)
        labels, weight, given = impressions.clicked.astype(np.float64), impressions.weight, logits.astype(np.float64)

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            by_place = np.append(0.0, parameters[1:])
            total = given + parameters[0] + by_place[place]
            residual = weight * (expit(total) - labels)
            value = (weight * (np.logaddexp(0, total) - labels * total)).sum() + 0.5 * (by_place**2).sum()
            slope = np.bincount(place, residual, PLACES)[1:] + by_place[1:]
            return float(value), np.append(residual.sum(), slope)

        found = minimize(loss, np.zeros(PLACES), jac=True, method="L-BFGS-B", bounds=[(-12, 12)] * PLACES).x
        with torch.no_grad():
            self.shown.fill_(float(found[0]))
            self.by_place.copy_(torch.from_numpy(found[1:]))

    def forward(self, position: Tensor) -> Tensor:
        """int [N] → float [N]; unknown places (-1) add what the first does."""
        places = torch.cat([self.by_place.new_zeros(1), self.by_place])
        return self.shown + places[position.clamp(0, PLACES - 1)]
