"""The retrieval model's part of the ranker's logits, for a batch of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade.features.spec import Encoded
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
    return affinity.scores(queries_of(affinity, user, context, recent), positions)


def queries_of(affinity: ItemAffinity, user: Encoded, context: Encoded, recent: Recent | None) -> NDArray[np.float32]:
    """The visitors in the space of the affinity's items, float32 [B, D]."""
    features = user if affinity.mode == "static" else user.beside(context)
    return affinity.queries(features.categorical, features.continuous, recent)
