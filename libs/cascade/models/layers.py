"""The pieces both networks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cascade.models.errors import ModelConfigError


def mlp(widths: Sequence[int], *, activate_last: bool) -> nn.Sequential:
    """Linear layers of the given widths with a ReLU after each; none after the last unless asked for."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))


def embedding_dim(cardinality: int, cap: int) -> int:
    """The width of a table by its number of rows: 1.6 rows^0.56, at most `cap` (the fastai rule)."""
    return min(cap, max(2, int(1.6 * math.pow(cardinality, 0.56) + 0.5)))


class Tables(nn.Module):
    """One embedding table per categorical feature; row 0 of each is out-of-vocabulary.

    Shapes: C features.
    """

    def __init__(self, cardinalities: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        if any(rows < 1 for rows in cardinalities):
            raise ModelConfigError(
                f"cardinalities {tuple(cardinalities)} include an empty table; count the unknown row too"
            )
        tables = [nn.Embedding(rows, dim) for rows, dim in zip(cardinalities, dims, strict=True)]
        for table in tables:
            # Small enough that an id seen once does not outweigh what its other features say.
            nn.init.normal_(table.weight, std=0.05)
        self.tables = nn.ModuleList(tables)

    def forward(self, categorical: Tensor) -> list[Tensor]:
        """int [..., C] → C tensors, each [..., dim of its table]."""
        columns = categorical.unbind(-1)
        return [table(column) for table, column in zip(self.tables, columns, strict=True)]


class ContentScale(nn.Module):
    """Brings a pretrained embedding to unit root mean square, by one factor measured when training starts.

    PCA leaves components around 0.1, next to standardised features around 1: under Adam they would learn ten
    times slower. One factor for all components keeps their relative weight, and keeps a missing picture's
    zero row at zero.
    """

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()))

    def fit(self, embeddings: Tensor) -> None:
        """Measure the factor on float [N, D]; rows of zeros (nothing known) do not count."""
        known = embeddings[embeddings.abs().sum(1) > 0]
        if known.numel():
            self.factor.copy_(known.square().mean().rsqrt())

    def forward(self, embeddings: Tensor) -> Tensor:
        """float [B, D] → float [B, D]."""
        return embeddings * self.factor
