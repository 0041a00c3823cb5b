"""Target attention: a candidate looks back over what its visitor did lately, and tells how well it goes with it.

The activation unit of the Deep Interest Network (Zhou et al. 2018) with a learned similarity, where `matches` has a
given one. Events and candidates are read by tables of the attention's own: a vector is the sum of the rows of an item's
categorical values (its id, its categories, for whom it is), so that what is known of an id and what of its kind add up.

For head h, candidate c and event j of vectors x, with what the event counts by its place, age and type (`by_event`):

- logit_hj = x_c · Q_h x_j + by_event_hj, and 0 for "nothing"
- LOG_SCALE · log Σ_j exp(logit_hj), "nothing" included, is a feature: whether anything there goes with the candidate
- Σ_j w_hj (x_c · V_h x_j), w the softmax of the logits, is the other: how well what it looked at does

A visitor who did nothing gives zeros.

Shapes: B histories, L events, C fields, N candidates, H heads, A the dimension of vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.models.arrays import Floats, Rows
from cascade.models.errors import ModelConfigError
from cascade.models.layers import Tables

FEATURES = 2
"""Columns a head gives."""
LOG_SCALE = 0.3
_GAIN = 4.0
"""Q and V begin as this many times the identity: tables begin small, and an item is to find itself at once."""


class TargetAttention(nn.Module):
    """Event weights, events and candidates → features. Raises ModelConfigError on sizes of 0."""

    def __init__(self, cardinalities: Sequence[int], heads: int, dim: int) -> None:
        super().__init__()
        if min(heads, dim, len(cardinalities)) < 1:
            raise ModelConfigError(
                f"target attention of {heads} heads and dimension {dim} over {len(cardinalities)} fields; give at "
                "least 1 of each"
            )
        self.heads, self.dim = heads, dim
        self.tables = Tables(cardinalities, [dim] * len(cardinalities))
        self.question = nn.Parameter(_GAIN * torch.eye(dim).repeat(heads, 1, 1))  # [H, A, A]
        self.value = nn.Parameter(_GAIN * torch.eye(dim).repeat(heads, 1, 1))

    def vectors(self, codes: Tensor) -> Tensor:
        """int [..., C] → float [..., A]."""
        return torch.stack(self.tables(codes)).sum(0)

    def forward(self, by_event: Tensor, codes: Tensor, items: Tensor) -> Tensor:
        """What events count float [B, H, L], very low where there is none, their codes int [B, L, C], N candidates
        each int [B, N, C] → float [B, N, 2·H], the logarithms first."""
        events = self.vectors(codes).transpose(1, 2)[:, None]  # [B, 1, A, L]
        candidates = self.vectors(items)[:, None]  # [B, 1, N, A]
        logits = candidates @ self.question @ events + by_event[:, :, None]  # [B, H, N, L]
        logits = F.pad(logits, (1, 0))  # "nothing" first
        weights = torch.softmax(logits, dim=3)[..., 1:]
        worth = (weights * (candidates @ self.value @ events)).sum(3)  # [B, H, N]
        return torch.cat([LOG_SCALE * torch.logsumexp(logits, dim=3), worth], dim=1).transpose(1, 2)


class PackedAttention:
    """The same for one request after another, in NumPy: `begin` one, `write` its rows. Not to be shared by threads.

    categorical: int32 [I, C] of all items, each value within the tables
    """

    def __init__(self, module: TargetAttention, categorical: Rows) -> None:
        tables = [table.detach().cpu().numpy() for table in module.tables.parameters()]
        self._starts = np.cumsum([0, *map(len, tables[:-1])]).astype(np.int32)  # [C]
        self._rows = np.concatenate(tables)
        self._items = self._vectors(categorical)  # [I, A]
        matrices = torch.cat([module.question, module.value]).detach().cpu().numpy()
        self._matrices, self._heads = matrices, module.heads  # [2·H, A, A]
        self._products: Floats = np.zeros((2 * module.heads, module.dim, 0), np.float32)
        self._by_event: Floats = np.zeros((module.heads, 0), np.float32)

    @property
    def nbytes(self) -> int:
        """Memory of the items' vectors."""
        return self._items.nbytes

    def begin(self, codes: Rows, by_event: Floats) -> None:
        """Take a history: its events' codes int32 [L, C] and what they count float32 [H, L]."""
        self._products = self._matrices @ self._vectors(codes).T  # [2·H, A, L]
        self._by_event = by_event

    def write(self, rows: NDArray[np.integer], out: Floats) -> None:
        """The features of items at these positions, into `out` float32 [n, 2·H]."""
        heads = self._heads
        if not self._by_event.shape[1]:
            out[:] = 0
            return
        products = self._items.take(rows, axis=0) @ self._products  # [2·H, n, L]
        logits, worth = products[:heads], products[heads:]
        logits += self._by_event[:, None]
        highest = logits.max(axis=2, keepdims=True, initial=0)
        weights = np.exp(logits - highest, out=logits)
        total = weights.sum(axis=2) + np.exp(-highest[..., 0])  # [H, n]
        out[:, :heads] = (np.float32(LOG_SCALE) * (np.log(total) + highest[..., 0])).T
        out[:, heads:] = (np.einsum("hnl,hnl->hn", weights, worth) / total).T

    def _vectors(self, codes: Rows) -> Floats:
        vectors: Floats = self._rows.take(codes + self._starts, axis=0).sum(axis=-2)
        return vectors
