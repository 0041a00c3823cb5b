"""Click probabilities of a request's candidates, fast: the DLRM with all that an item decides alone computed before.

Three scorers give the same numbers (tests hold them to `Dlrm.predict`):

- `PlainScorer`: features gathered, the network run over them. What the others are measured against, and what serves
  where the precomputed items would not fit the memory allowed.
- `PackedScorer`: on the CPU, NumPy over `dlrm_split`'s parts. Gathering is one `take` of each of two tables, the
  largest of a dozen products is [N, 116] × [116, 128] at the default sizes (156 with histories), and everything between
  them is written into buffers that stay in the second-level cache. One request at a time: the products of 300 rows run
  at the machine's peak already, and those of 4,800 would leave the cache.
- `cascade.models.dlrm_gpu.GpuScorer`: on a GPU, all requests at once.

Shapes: B requests, request b with N_b candidates; the others as in `dlrm_split`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.models.arrays import Floats, Rows, require_rows, same_length
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.models.dlrm_split import DlrmSplit, ItemFeatures, Widths, pack_items
from cascade.models.errors import ModelInputError
from cascade.models.matches import EventHistories
from cascade.models.packed_matches import PackedMatches

Places = NDArray[np.integer]

CHUNK = 512
"""rows computed at once by `PackedScorer`: its buffers, 1.5 MB at the default sizes, do not outgrow the caches"""

JOINED_BYTES = 256 * 2**20
"""most memory for a copy of the request's tables in one: 800,000 users at the default sizes"""


class Scorer(Protocol):
    """Scores a batch of requests."""

    def score(
        self,
        user_categorical: Rows,
        user_continuous: Floats,
        context_categorical: Rows,
        context_continuous: Floats,
        positions: Sequence[Places],
        histories: EventHistories | None = None,
        offsets: Sequence[Floats] | None = None,
    ) -> list[Floats]:
        """Click probabilities of each request's candidates, float32 [N_b] in the order given.

        user and context: one row a request, columns as the network was trained on
        positions: B arrays int [N_b] of positions among the items, each within them
        histories: what each request's visitor did lately, one each; None: nothing yet. A network that reads none
            leaves them be.
        offsets: B arrays float32 [N_b], the affinity's part of the logits; None: nothing
        Raises ModelInputError on arrays that do not fit.
        """
        ...


def make_scorer(model: Dlrm, items: ItemFeatures, device: torch.device, precompute_bytes: int) -> Scorer:
    """The fastest scorer for a device and a bound on the memory of the precomputed items."""
    if packed_bytes(model.config, len(items.categorical)) > precompute_bytes:
        return PlainScorer(model.to(device), items)
    if device.type == "cuda":
        from cascade.models.dlrm_gpu import GpuScorer

        return GpuScorer(model, items, device)
    return PackedScorer(model, items)


def packed_bytes(config: DlrmConfig, items: int) -> int:
    """Memory of the precomputed items: 1,604 bytes an item at the default sizes, 1,620 with histories; 1.6 GB for a
    million."""
    return items * Widths.of(config).bytes_per_item


class PlainScorer:
    """Gathers every feature of every row and runs the network over them."""

    def __init__(self, model: Dlrm, items: ItemFeatures) -> None:
        self._model = model
        self._items = items

    def score(
        self,
        user_categorical: Rows,
        user_continuous: Floats,
        context_categorical: Rows,
        context_continuous: Floats,
        positions: Sequence[Places],
        histories: EventHistories | None = None,
        offsets: Sequence[Floats] | None = None,
    ) -> list[Floats]:
        """See `Scorer`."""
        counts = [len(rows) for rows in positions]
        if not sum(counts):
            return [np.empty(0, np.float32) for _ in counts]
        items, item = self._items, np.concatenate(positions)  # [N] over all requests
        owner = np.repeat(np.arange(len(counts)), counts)  # [N]: the request of each row
        probabilities = self._model.predict(
            np.concatenate([user_categorical[owner], items.categorical[item], context_categorical[owner]], axis=1),
            np.concatenate([user_continuous[owner], items.continuous[item], context_continuous[owner]], axis=1),
            items.image[item],
            items.text[item],
            histories_read(self._model.config, histories, len(counts)),
            owner,
            None if offsets is None else np.concatenate(offsets),
        )
        return np.split(probabilities, np.cumsum(counts)[:-1])


class PackedScorer:
    """Gathers the precomputed part of each item and computes what depends on request and item both."""

    def __init__(self, model: Dlrm, items: ItemFeatures) -> None:
        self._config = model.config
        self.split = DlrmSplit.of(model).numpy()
        """the weights by what they multiply"""
        self._vectors, self._side = pack_items(model, items)
        self._matches = None if model.matches is None else PackedMatches(model, items.categorical)
        self._buffers = _Buffers(self.split)
        sizes = [len(table) for table in self.split.tables]
        self._starts = np.cumsum([0, *sizes[:-1]], dtype=np.int64)[: len(sizes)]
        small = sizes and 4 * sum(sizes) * self.split.widths.dim <= JOINED_BYTES
        self._joined = np.concatenate(self.split.tables) if small else None
        self._lock = threading.Lock()  # of the buffers

    @property
    def nbytes(self) -> int:
        """Memory of the precomputed items."""
        matches = 0 if self._matches is None else self._matches.nbytes
        return self._vectors.nbytes + self._side.nbytes + matches

    def score(
        self,
        user_categorical: Rows,
        user_continuous: Floats,
        context_categorical: Rows,
        context_continuous: Floats,
        positions: Sequence[Places],
        histories: EventHistories | None = None,
        offsets: Sequence[Floats] | None = None,
    ) -> list[Floats]:
        """See `Scorer`."""
        categorical, continuous = request_rows(
            self._config, user_categorical, user_continuous, context_categorical, context_continuous
        )
        read = histories_read(self._config, histories, len(categorical))
        # NaN and infinity of a damaged network come out as they are: the caller looks for them.
        with self._lock, np.errstate(all="ignore"):
            vectors = self._queries(categorical)  # [B, Q, D]
            bottom = continuous @ self.split.bottom_request  # [B, A]
            if self._matches is not None and read is not None:
                self._matches.read(read)
            scores = [np.empty(len(rows), np.float32) for rows in positions]
            for request, rows in enumerate(positions):
                self._request(request, vectors[request], bottom[request])
                queries = np.ascontiguousarray(vectors[request].T)  # [D, Q]
                for start in range(0, len(rows), CHUNK):
                    part = slice(start, start + CHUNK)
                    offset = None if offsets is None else offsets[request][part]
                    self._rows(rows[part], queries, offset, scores[request][part])
        return scores

    def _queries(self, categorical: Rows) -> Floats:
        """A request's vectors [B, Q, D], by one `take` where the tables are one."""
        if self._joined is None:
            queries: Floats = self.split.vectors(categorical, _empty)
            return queries
        return self._joined.take(categorical + self._starts, axis=0)

    def _request(self, request: int, vectors: Floats, bottom: Floats) -> None:
        """Write the first layers of one request's rows. vectors [Q, D], bottom [A]."""
        split, widths, buffers = self.split, self.split.widths, self._buffers
        np.add(split.bottom_item[-1], bottom, out=buffers.first_matrix[-1])
        dense = buffers.over_matrix[: widths.dim]
        np.matmul(vectors.T, split.top_dense_request, out=dense)
        dense += split.top_dense
        among = (vectors @ vectors.T).reshape(-1) @ split.top_request  # [H]
        if self._matches is not None:
            among += self._matches.begin(request) @ split.top_amounts
        np.add(split.top_rows[widths.constant - widths.dim], among, out=buffers.over_matrix[widths.constant])

    def gather(self, rows: Places) -> tuple[Floats, Floats]:
        """The precomputed parts of up to CHUNK items, valid until the next call.

        vectors [n, P·D] and side [n, item columns + 1 + P(P−1)/2]
        """
        vectors, side = self._buffers.vectors[: len(rows)], self._buffers.side[: len(rows)]
        # mode="clip" lets NumPy write straight into `out`; positions are within the items.
        self._vectors.take(rows, axis=0, out=vectors, mode="clip")
        self._side.take(rows, axis=0, out=side, mode="clip")
        return vectors, side

    def _rows(self, rows: Places, queries: Floats, offset: Floats | None, scores: Floats) -> None:
        """Probabilities of up to CHUNK rows of the request written last, into `scores` [n]."""
        split, widths, buffers, count = self.split, self.split.widths, self._buffers, len(rows)
        request_item, dense_item = widths.constant - widths.item, widths.constant

        vectors, side = self.gather(rows)
        inputs = buffers.inputs[:count]  # [n, K]

        first = np.matmul(side[:, : widths.item_continuous + 1], buffers.first_matrix, out=buffers.first[:count])
        dense = _relu(first, buffers)
        for (weight, bias), output in zip(split.bottom_rest, buffers.bottom, strict=True):
            dense = np.matmul(dense, weight, out=output[:count])
            dense += bias
            dense = _relu(dense, buffers)
        inputs[:, : widths.dim] = dense
        by_vector = vectors.reshape(count * widths.item, widths.dim)
        dots = np.matmul(by_vector, queries, out=buffers.dots[: len(by_vector)])
        inputs[:, widths.dim : request_item] = dots.reshape(count, -1)
        np.matvec(vectors.reshape(count, widths.item, widths.dim), dense, out=inputs[:, request_item:dense_item])
        inputs[:, dense_item : widths.first_match] = side[:, widths.item_continuous :]
        if self._matches is not None:
            self._matches.write(rows, inputs[:, widths.first_match :])

        hidden = np.matmul(inputs, buffers.over_matrix, out=buffers.over[:count])  # [n, H]
        for (weight, bias), output in zip(split.top_rest, buffers.top, strict=True):
            hidden = np.matmul(_relu(hidden, buffers), weight, out=output[:count])
            hidden += bias
        logits = hidden[:, 0]
        if offset is not None:
            logits = logits + offset * np.float32(split.offset_scale)
        np.negative(split.calibration.of(logits), out=scores)
        np.exp(scores, out=scores)
        scores += 1
        np.reciprocal(scores, out=scores)


class _Buffers:
    """What `PackedScorer` writes into, for one request and up to CHUNK of its rows."""

    def __init__(self, split: DlrmSplit) -> None:
        widths = split.widths
        self.first_matrix = split.bottom_item.copy()
        self.over_matrix = np.concatenate([split.top_dense, split.top_rows])
        self.vectors = _empty((CHUNK, widths.vectors))
        self.side = _empty((CHUNK, widths.side))
        self.inputs = _empty((CHUNK, widths.over))
        self.dots = _empty((CHUNK * widths.item, widths.request))
        self.first = _empty((CHUNK, split.bottom_item.shape[1]))
        self.bottom = [_empty((CHUNK, weight.shape[1])) for weight, _ in split.bottom_rest]
        self.over = _empty((CHUNK, split.top_dense.shape[1]))
        self.top = [_empty((CHUNK, weight.shape[1])) for weight, _ in split.top_rest]
        layers = [self.first, *self.bottom, self.over, *self.top]
        self.zeros = {layer.shape[1]: np.zeros(layer.shape, np.float32) for layer in layers}


def request_rows(
    config: DlrmConfig,
    user_categorical: Rows,
    user_continuous: Floats,
    context_categorical: Rows,
    context_continuous: Floats,
) -> tuple[Rows, Floats]:
    """User and context columns side by side: int [B, Q], float32 [B, columns]. Raises ModelInputError."""
    count = len(user_categorical)
    if not count == len(user_continuous) == len(context_categorical) == len(context_continuous):
        same_length(
            user_categorical=user_categorical,
            user_continuous=user_continuous,
            context_categorical=context_categorical,
            context_continuous=context_continuous,
        )
    categorical = np.concatenate([user_categorical, context_categorical], axis=1)
    continuous = np.concatenate([user_continuous, context_continuous], axis=1)
    cardinalities = config.user_cardinalities + config.context_cardinalities
    width = config.user_continuous + config.context_continuous
    if categorical.shape[1] != len(cardinalities) or continuous.shape[1] != width:
        raise ModelInputError(
            f"user and context have {categorical.shape[1]} categorical and {continuous.shape[1]} continuous columns; "
            f"this model takes {len(cardinalities)} and {width}"
        )
    # One comparison for all: a negative row is a huge unsigned one.
    if not (categorical.view(np.uint32) < np.array(cardinalities, np.uint32)).all():
        require_rows(categorical, cardinalities)
    return categorical, continuous


def histories_read(config: DlrmConfig, histories: EventHistories | None, requests: int) -> EventHistories | None:
    """Of these requests, as much as a network reads; None where it reads none. Raises ModelInputError."""
    if not config.history_length:
        return None
    fields = len(config.item_cardinalities)
    if histories is None:
        return EventHistories.empty(requests, fields)
    return histories.checked(requests, fields, config.history_length, config.history_event_types)


def _relu(values: Floats, buffers: _Buffers) -> Floats:
    # Against an array of zeros: NumPy's maximum with a scalar takes four times as long.
    zeros = buffers.zeros[values.shape[1]][: len(values)]
    result: Floats = np.maximum(values, zeros, out=values)
    return result


def _empty(shape: tuple[int, ...]) -> Any:
    return np.empty(shape, np.float32)
