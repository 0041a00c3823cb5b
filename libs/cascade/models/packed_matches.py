"""Match features of one request after another, in NumPy: `HistoryMatches` (held to it by tests), each value once.

A candidate's features of a field depend on its value there alone. So the kernels' sums are computed for the values that
the history's events have, fifty at most, and not for three hundred candidates: a table over all values of a field names
the event whose features a value has, a candidate looks its place up and takes what stands there. What no event has
stands at the end.

Shapes: B requests, L events, C fields, K kernels, H heads of attention, W features a field; as in `matches`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.models.arrays import Floats, Rows
from cascade.models.dlrm import Dlrm
from cascade.models.errors import ModelInputError
from cascade.models.history import AGE_EDGES, AMOUNTS, MASKED, amounts_of
from cascade.models.matches import COUNT_SHIFT, LOG_FLOOR, LOG_SCALE, EventHistories, HistoryMatches, columns_of_field
from cascade.models.target_attention import PackedAttention


class PackedMatches:
    """Features of a batch: `read` it, `begin` a request, `write` its rows. Not to be shared by threads.

    categorical: int32 [I, C] of all items, each value within the network's tables
    """

    def __init__(self, model: Dlrm, categorical: Rows) -> None:
        module = model.matches
        if not isinstance(module, HistoryMatches):
            raise ValueError("a network that reads no histories has no matches")
        self._shares, self._kernels = module.shares, module.shares + module.counts
        attention = module.attention
        self._attention = None if attention is None else PackedAttention(attention, categorical)
        self._by_rank, by_age, by_type, self._nothing = (
            weight.detach().cpu().numpy()
            for weight in (module.by_rank, module.by_age, module.by_type, module.nothing[:, None])
        )
        # An event's bucket and type as one row of a table.
        self._types = by_type.shape[1]
        self._by_event = (by_age[:, :, None] + by_type[:, None, :]).reshape(len(by_age), -1).T.copy()  # [.., K + H]
        sizes = np.array(model.config.item_cardinalities, np.int32)
        self._sizes = sizes.astype(np.uint32)
        self._starts = np.cumsum([0, *sizes[:-1]]).astype(np.int32)  # [C]
        self._codes = categorical + self._starts  # [I, C], each field's values behind the one's before
        self._width = columns_of_field(module.shares, module.counts)
        fields, length = module.fields, module.length
        self._first = np.arange(fields, dtype=np.int32) * (length + 1)  # [C]
        self._last = self._first + length
        self._place = np.repeat(self._last, sizes)  # a row of `_rows` for every value of every field
        self._rows = np.zeros((fields * (length + 1), self._width), np.float32)
        nothing = np.float32(LOG_SCALE * np.log(LOG_FLOOR))
        self._rows[self._last, self._shares : 2 * self._shares] = nothing
        self._shaped = self._rows.reshape(fields, length + 1, self._width)
        self._touched = np.empty(0, np.int32)
        self._untouched = np.tile(self._last, length)
        self._histories = EventHistories.empty(0, fields)
        self._weights = np.empty((0, len(by_age), 0), np.float32)
        self._amounts = np.empty((0, AMOUNTS), np.float32)

    @property
    def nbytes(self) -> int:
        """Memory of the items' values."""
        return self._codes.nbytes + (0 if self._attention is None else self._attention.nbytes)

    def read(self, histories: EventHistories) -> None:
        """Take a batch of B, none longer than the network reads, and weigh its events."""
        if not (histories.codes.view(np.uint32) < self._sizes).all():
            raise ModelInputError(
                f"a history names values up to {int(histories.codes.max(initial=0))}, of fields of "
                f"{self._sizes.tolist()} values; take them from this model's items"
            )
        self._histories = histories
        self._amounts = amounts_of(histories.there, histories.ages)
        length = histories.there.shape[1]
        kinds = np.searchsorted(AGE_EDGES, histories.ages, side="right") * self._types + histories.types
        logits = self._by_event[kinds].transpose(0, 2, 1) + self._by_rank[:, :length]  # [B, K + H, L]
        there = histories.there[:, None]
        shares = np.where(there, logits[:, : self._shares], np.float32(MASKED))
        highest = np.maximum(shares.max(axis=2, keepdims=True, initial=MASKED), self._nothing)
        np.exp(shares - highest, out=shares)
        shares /= shares.sum(axis=2, keepdims=True) + np.exp(self._nothing - highest)
        counts = there / (1 + np.exp(-(logits[:, self._shares : self._kernels] + np.float32(COUNT_SHIFT))))
        self._weights = np.concatenate([shares, counts.astype(np.float32), logits[:, self._kernels :]], axis=1)

    def begin(self, request: int) -> Floats:
        """Make a request of the batch the one whose rows are written; how much history it has, float32 [2]."""
        self._place[self._touched] = self._untouched[: len(self._touched)]
        there = self._histories.there[request]
        codes, weights = self._histories.codes[request], self._weights[request]  # [L, C], [K + H, L]
        if not there.all():
            codes, weights = codes[there], weights[:, there]
        events = len(codes)
        if events:
            self._features(codes, weights[: self._kernels])
        if self._attention is not None:
            self._attention.begin(codes, weights[self._kernels :])
        touched = codes + self._starts
        places = self._first + np.arange(events, dtype=np.int32)[:, None]  # [L, C]
        # A value that is none keeps standing at the end.
        self._place[touched] = np.where(codes == 0, self._last, places)
        self._touched = touched.ravel()
        said: Floats = self._amounts[request]
        return said

    def _features(self, codes: Rows, weights: Floats) -> None:
        """Write the features that each event's values have. codes [L, C], weights [K, L]."""
        columns = np.ascontiguousarray(codes.T)  # [C, L]: compared five times as fast
        agree = (columns[:, :, None] == columns[:, None]).astype(np.float32)  # [C, L, L]
        sums = agree @ weights.T  # [C, L, K]
        rows, shares = self._shaped[:, : len(codes)], self._shares
        rows[:, :, :shares] = sums[:, :, :shares]
        logs = np.log(sums[:, :, :shares] + np.float32(LOG_FLOOR))
        np.multiply(logs, np.float32(LOG_SCALE), out=rows[:, :, shares : 2 * shares])
        np.log1p(sums[:, :, shares:], out=rows[:, :, 2 * shares :])

    def write(self, rows: NDArray[np.integer], out: Floats) -> None:
        """The match features of items at these positions, into `out` float32 [n, C·W + 2·H]."""
        places = self._place.take(self._codes.take(rows, axis=0))  # [n, C]
        matched = places.shape[1] * self._width
        out[:, :matched] = self._rows.take(places, axis=0).reshape(len(rows), -1)
        if self._attention is not None:
            self._attention.write(rows, out[:, matched:])
