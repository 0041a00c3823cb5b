"""A picture's worth of an embedding: every vector as a point in the plane."""

from __future__ import annotations

import numpy as np

from cascade.embeddings.pca import Floats, Pca

_SAMPLE = 20_000


def embedding_map(vectors: Floats, seed: int) -> Floats:
    """vectors float32 [N, D] placed on their two strongest principal components: float32 [N, 2] in [-1, 1].

    The components are fitted on a sample of at most 20,000 vectors, drawn with the seed. Vectors of zeros
    (items without a picture) lie at the origin. Both axes share one factor, so distances keep their proportions.

    Raises PcaMisfit: no vector differs from zero.
    """
    sample = vectors
    if len(vectors) > _SAMPLE:
        rows = np.random.default_rng(seed).choice(len(vectors), _SAMPLE, replace=False)
        sample = vectors[np.sort(rows)]
    points = Pca.fit(sample, dim=2).transform(vectors)
    reach = float(np.abs(points).max())
    return points / np.float32(reach) if reach > 0.0 else points
