"""The retrieval model's part of the ranker's logits, for a batch of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade.features.spec import Encoded, Floats, Rows
from cascade.store.artifacts import RankerArtifacts
from services.ranker.histories import Recent

if TYPE_CHECKING:
    from cascade.models.affinity import ItemAffinity


def affinities_of(
    bundle: RankerArtifacts,
    user: Encoded,
    context: Encoded,
    recent: Recent | None,
    positions: Sequence[NDArray[np.integer]],
) -> list[NDArray[np.float32]] | None:
    """What is added to the logits of each request's candidates, float32 [N_b]; None without an affinity."""
    affinity = bundle.affinity
    if affinity is None:
        return None
    return affinity.logits(*columns_of(affinity, user, context), recent, positions)


def columns_of(affinity: ItemAffinity, user: Encoded, context: Encoded) -> tuple[Rows, Floats]:
    """The visitors' columns as far as the affinity reads them: int32 [B, C], float32 [B, F]."""
    features = user if affinity.mode == "static" else user.beside(context)
    return features.categorical, features.continuous
