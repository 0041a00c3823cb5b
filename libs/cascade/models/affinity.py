"""Affinity: what a two-tower model says of a visitor and an item, as a part of a ranker's logit.

Retrieval learns from thousands of negatives at once what goes with what; a ranker learns from a handful, and from more
features. Their logits are added, the towers' with a weight fitted on rows that neither learned from (stacking, Wolpert
1992): learned together with the ranker, the towers' confidence on their own training rows would be believed.

A ranker carries towers of its own, as they were when it was trained: the retrieval that serves may be of another day.

Shapes: B visitors, L events of the longest history, I items, D the dimension of the towers' vectors, N_b candidates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.files import replacing
from cascade.models.arrays import Floats, Rows
from cascade.models.errors import ModelFileError
from cascade.models.history import HistoryArrays
from cascade.models.query_encoder import QueryEncoder, make_encoder
from cascade.models.two_tower import Mode, TwoTower

if TYPE_CHECKING:
    from cascade.models.dlrm_split import ItemFeatures

_WEIGHT = "affinity.json"
_FEW = 64
"""visitors up to which NumPy is faster than torch"""


@dataclass(frozen=True)
class Affinity:
    """Both towers, and what their score counts for in the ranker's logit."""

    towers: TwoTower
    weight: float

    def over(self, items: ItemFeatures) -> ItemAffinity:
        """For a catalog: its vectors are computed once."""
        vectors = self.towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
        return ItemAffinity(self.towers, vectors, self.weight)

    def save(self, folder: Path) -> None:
        """Write towers and weight into `folder`."""
        self.towers.save(folder)
        with replacing(folder / _WEIGHT) as beside:
            beside.write_text(json.dumps({"weight": self.weight}) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Affinity:
        """What `save` wrote. Raises ModelFileError."""
        try:
            weight = float(json.loads((folder / _WEIGHT).read_text(encoding="utf-8"))["weight"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{folder / _WEIGHT} holds no weight ({error}); save the model again") from error
        return cls(TwoTower.load(folder), weight)


@dataclass(frozen=True)
class ItemAffinity:
    """An affinity over a catalog. vectors: float32 [I, D], the candidate tower's"""

    towers: TwoTower
    vectors: Floats
    weight: float

    @property
    def mode(self) -> Mode:
        """What the query tower reads."""
        return self.towers.config.mode

    @cached_property
    def _encoder(self) -> QueryEncoder:
        return make_encoder(self.towers.query, torch.device("cpu"))

    def queries(
        self,
        categorical: Rows,
        continuous: Floats,
        events: tuple[Rows, Rows, NDArray[np.int64]] | None,
    ) -> Floats:
        """Visitors → float32 [B, D]. The columns are the user's and, but in mode static, the moment's.

        events: positions of items int32 [B, L] (-1 for none), types int32 [B, L], ages int64 [B, L], newest first; for
            mode session, None: nobody did anything yet
        """
        if self.mode != "session":
            return self._encoder.predict(categorical, continuous)
        length = self.towers.config.history_length
        if events is None:
            none = np.zeros((len(categorical), 0), np.int32)
            events = none, none, none.astype(np.int64)
        items, types, ages = events
        history = HistoryArrays.gather(items[:, :length], types[:, :length], ages[:, :length], self.vectors)
        if len(categorical) > _FEW:
            return self.towers.query.predict(categorical, continuous, history)
        return self._encoder.predict(categorical, continuous, history)

    def scores(self, queries: Floats, positions: Sequence[NDArray[np.integer]]) -> list[Floats]:
        """What to add to the ranker's logits: float32 [N_b] of each visitor's items."""
        weighed = queries * np.float32(self.weight)
        return [self.vectors[at] @ query for query, at in zip(weighed, positions, strict=True)]
