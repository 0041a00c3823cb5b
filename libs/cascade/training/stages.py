"""What an evaluation needs of the things it asks: the bundles of retrieval and ranker, and an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.features.item_table import ItemTable
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.index.interface import CandidateIndex
from cascade.models.dlrm import Dlrm
from cascade.training.query_rows import Queries

Floats = NDArray[np.float32]


class Retrieval(Queries, Protocol):
    """What evaluation needs of a retrieval bundle."""

    @property
    def index(self) -> CandidateIndex: ...


class Ranker(Protocol):
    """What evaluation needs of a ranker bundle."""

    @property
    def user_transform(self) -> UserTransform: ...
    @property
    def context_transform(self) -> ContextTransform: ...
    @property
    def items(self) -> ItemTable: ...
    @property
    def dlrm(self) -> Dlrm: ...


class Oracle(Protocol):
    """The true probabilities of a generated shop."""

    def click_probability(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str] | None,
        device: Sequence[str | None],
        timestamp: NDArray[np.integer] | Sequence[int],
        recent: Sequence[Sequence[str]],
    ) -> Floats:
        """float32 [R, I]."""
        ...
