"""Match features: what a candidate has in common with what its visitor did lately.

Cross features of history and candidate, as the activation unit of the Deep Interest Network has them (Zhou et al.
2018), with the similarity given and its weighing learned: an event agrees with a candidate in a field of items (its id,
its categories, for whom it is) or not, and kernels of the event's place, age and type say how much that counts.

For kernel k, event j (the newest first) and field f, agree_fj being 1 where candidate and event have the same value:

- logit_kj = by_rank[k, j] + by_age[k, bucket of the age] + by_type[k, type]
- a share kernel weighs by a softmax over the events and "nothing", a logit of value 0: Σ_j w_kj agree_fj in [0, 1] and
  its logarithm are features
- a count kernel weighs each event by sigmoid(logit + 1) by itself: log1p(Σ_j w_kj agree_fj) is a feature

Heads of target attention (`target_attention`), where there are any, learn what goes with what besides.

An out-of-vocabulary value agrees with nothing. An event whose item is gone keeps its place and weighs nothing. Two
columns more say how much history there is, as `history.amounts` does.

Shapes: B histories, L events of the longest, C fields, K kernels (shares first), H heads of attention, N candidates,
W = 2 · shares + counts features a field. Columns are field by field: shares, their logarithms, counts; then two a head;
the amounts are the last two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.models.arrays import Rows
from cascade.models.errors import ModelConfigError, ModelInputError
from cascade.models.history import AGE_EDGES, AMOUNTS, MASKED, amounts
from cascade.models.target_attention import FEATURES, TargetAttention

SHARE_SLOPES = (1.0, 0.3, 0.1, 0.03)
COUNT_SLOPES = (0.0, 0.05)
ATTENTION_SLOPES = (0.0, 0.1)
"""How fast kernels forget, to begin with, in log-odds a place; learned from there."""
LAST_PLACE = 49
"""Places behind it begin as it does."""
COUNT_SHIFT = 1.0
"""What a count kernel's logits begin with: an event counts for three quarters."""
LOG_FLOOR, LOG_SCALE = 0.02, 0.3
"""LOG_SCALE · log(share + LOG_FLOOR): a share's logarithm with an end, of the order of 1."""
_NO_VALUE, _AGREES_WITH_NOTHING = 0, -1


@dataclass(frozen=True)
class EventTensors:
    """Histories as the module takes them, newest event first.

    codes: int [B, L, C] the events' items' categorical values; types: int [B, L]; ages: int64 [B, L], seconds
    there: bool [B, L]
    """

    codes: Tensor
    types: Tensor
    ages: Tensor
    there: Tensor


@dataclass(frozen=True)
class EventHistories:
    """The same in NumPy.

    codes: int32 [B, L, C], types: int32 [B, L], ages: int64 [B, L], there: bool [B, L], False behind a history's end
        and for events that say nothing (their item is gone)
    """

    codes: Rows
    types: Rows
    ages: NDArray[np.int64]
    there: NDArray[np.bool_]

    @classmethod
    def gather(cls, items: Rows, types: Rows, ages: NDArray[np.int64], categorical: Rows) -> EventHistories:
        """From item positions int32 [B, L] (-1 for none) in a table of categorical features [I, C]."""
        return cls(categorical[np.maximum(items, 0)], types, ages, items >= 0)

    @classmethod
    def empty(cls, rows: int, fields: int) -> EventHistories:
        """Of visitors who did nothing yet."""
        none = np.zeros((rows, 0), np.int32)
        return cls(np.zeros((rows, 0, fields), np.int32), none, none.astype(np.int64), none.astype(bool))

    def __len__(self) -> int:
        return len(self.there)

    def take(self, rows: NDArray[np.integer] | slice) -> EventHistories:
        """The given ones, in the given order."""
        return EventHistories(self.codes[rows], self.types[rows], self.ages[rows], self.there[rows])

    def checked(self, rows: int | None, fields: int, length: int, event_types: int) -> EventHistories:
        """The newest `length` events of each. Raises ModelInputError where the arrays do not fit each other, are not
        this many, or name a type that there is not."""
        shape = self.there.shape
        if len(shape) != 2 or self.codes.shape != (*shape, fields) or {self.types.shape, self.ages.shape} != {shape}:
            raise ModelInputError(
                f"histories have codes of shape {self.codes.shape}, types {self.types.shape}, ages {self.ages.shape}, "
                f"mask {shape}; give [rows, events, {fields}] and [rows, events] thrice"
            )
        if rows is not None and shape[0] != rows:
            raise ModelInputError(f"there are {shape[0]} histories for {rows} rows; give one each")
        # One comparison for all: a negative type is a huge unsigned one.
        if not (self.types.view(np.uint32) < event_types).all():
            raise ModelInputError(
                f"an event has type {int(self.types.min())} or {int(self.types.max())}; this model knows 0 to "
                f"{event_types - 1}"
            )
        if shape[1] <= length:
            return self
        return EventHistories(
            self.codes[:, :length], self.types[:, :length], self.ages[:, :length], self.there[:, :length]
        )

    def tensors(self, device: torch.device) -> EventTensors:
        """For the module."""
        return EventTensors(*(_tensor(part, device) for part in (self.codes, self.types, self.ages, self.there)))


class HistoryMatches(nn.Module):
    """Histories and candidates → match features. Raises ModelConfigError on sizes of 0.

    attention: heads beside the kernels, which read the same fields
    """

    age_edges: Tensor

    def __init__(
        self,
        fields: int,
        length: int,
        event_types: int,
        shares: int,
        counts: int,
        attention: TargetAttention | None = None,
    ) -> None:
        super().__init__()
        if min(fields, length, event_types, shares + counts) < 1:
            raise ModelConfigError(
                f"matches over {fields} fields, histories of {length}, {event_types} event types, {shares} share and "
                f"{counts} count kernels; give at least 1 of each, kernels together"
            )
        self.fields, self.length, self.event_types = fields, length, event_types
        self.shares, self.counts = shares, counts
        slopes = [SHARE_SLOPES[k % len(SHARE_SLOPES)] for k in range(shares)]
        slopes += [COUNT_SLOPES[k % len(COUNT_SLOPES)] for k in range(counts)]
        heads = 0 if attention is None else attention.heads
        slopes += [ATTENTION_SLOPES[k % len(ATTENTION_SLOPES)] for k in range(heads)]
        kernels = len(slopes)
        self.attention = attention
        places = torch.arange(length).clamp_max(LAST_PLACE)
        self.by_rank = nn.Parameter(-torch.tensor(slopes)[:, None] * places)  # [K + H, length]
        self.by_age = nn.Parameter(torch.zeros(kernels, len(AGE_EDGES) + 1))
        self.by_type = nn.Parameter(torch.zeros(kernels, event_types))
        self.nothing = nn.Parameter(torch.zeros(shares))
        self.register_buffer("age_edges", torch.from_numpy(AGE_EDGES), persistent=False)

    def forward(self, histories: EventTensors, owner: Tensor | None, items: Tensor) -> Tensor:
        """Of N rows: histories of B visitors, which of them each row has int64 [N] (None: its own), the rows' items'
        categorical values int [N, C] → float [N, C·W + 2·H + 2]."""
        weights, codes, said = self.kernels(histories), histories.codes, self.amounts(histories)
        if owner is not None:
            weights, codes, said = weights[owner], codes[owner], said[owner]
        return torch.cat([self.features(weights, codes, items[:, None])[:, 0], said], dim=1)

    def kernels(self, histories: EventTensors) -> Tensor:
        """What each event counts, by each kernel: float [B, K + H, L], 0 where there is none; for a head of attention
        its part of the logit, very low where there is none."""
        rows, length = histories.there.shape
        buckets = torch.bucketize(histories.ages, self.age_edges, right=True)
        by_event = F.embedding(buckets, self.by_age.T) + F.embedding(histories.types, self.by_type.T)  # [B, L, K + H]
        logits = self.by_rank[:, :length] + by_event.transpose(1, 2)
        there = histories.there[:, None]
        nothing = self.nothing.expand(rows, self.shares)[:, :, None]
        shares = torch.cat([nothing, logits[:, : self.shares].masked_fill(~there, MASKED)], dim=2)
        counts = torch.sigmoid(logits[:, self.shares : self.shares + self.counts] + COUNT_SHIFT) * there
        looks = logits[:, self.shares + self.counts :].masked_fill(~there, MASKED)
        return torch.cat([torch.softmax(shares, dim=2)[:, :, 1:], counts, looks], dim=1)

    def amounts(self, histories: EventTensors) -> Tensor:
        """How much history there is, float [B, 2]."""
        return amounts(histories.there, histories.ages).to(self.by_rank.dtype)

    def features(self, weights: Tensor, codes: Tensor, items: Tensor) -> Tensor:
        """What `kernels` gave [B, K + H, L], events' codes int [B, L, C], N items each int [B, N, C] → float
        [B, N, C·W + 2·H].

        The only part that a pair of history and candidate costs: comparisons and one product of matrices, and what the
        heads of attention do.
        """
        kernels = self.shares + self.counts
        rows, count, fields = items.shape
        wanted = items.masked_fill(items == _NO_VALUE, _AGREES_WITH_NOTHING)
        agree = codes[:, :, None] == wanted[:, None]  # [B, L, N, C]
        sums = torch.bmm(weights[:, :kernels], agree.flatten(2).to(weights.dtype))
        sums = sums.view(rows, kernels, count, fields)  # [B, K, N, C]
        shares, counts = sums[:, : self.shares], sums[:, self.shares :]
        columns = [shares, LOG_SCALE * torch.log(shares + LOG_FLOOR), torch.log1p(counts)]
        matched = torch.cat(columns, dim=1).permute(0, 2, 3, 1).flatten(2)
        if self.attention is None:
            return matched
        return torch.cat([matched, self.attention(weights[:, kernels:], codes, items)], dim=2)


def columns_of_field(shares: int, counts: int) -> int:
    """W."""
    return 2 * shares + counts


def columns_of(fields: int, shares: int, counts: int, heads: int) -> int:
    """All columns: C·W, 2·H and the amounts."""
    return fields * columns_of_field(shares, counts) + FEATURES * heads + AMOUNTS


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
