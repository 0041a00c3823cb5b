"""Click probabilities on a GPU: all requests of a batch at once, over items precomputed in its memory.

The parts are those of `dlrm_split`. Requests are padded to one number of candidates, and both that number and the
number of requests are rounded up, so that few shapes occur; for each of them the work is captured once as a CUDA graph
and replayed, since at these sizes launching a kernel takes longer than running it. `torch.compile` would fuse some of
the kernels too, but needs a C++ compiler where the service runs, and seconds for each shape. Inputs and outputs go
through pinned memory, so that their transfers queue up with the kernels instead of waiting for one another.

The code runs on any torch device; without CUDA there are no graphs and no pinned memory. That is how tests hold it to
the network where there is no GPU.

Shapes: B requests, N candidates each after padding, L events, C fields of items; the others as in `dlrm_split`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cascade.models.arrays import Floats, Rows
from cascade.models.dlrm import Dlrm
from cascade.models.dlrm_scorer import Places, histories_read, request_rows
from cascade.models.dlrm_split import DlrmSplit, ItemFeatures, pack_items
from cascade.models.matches import EventHistories, EventTensors

CANDIDATES_STEP = 32
"""candidates are padded to a multiple of this"""
MOST_GRAPHS = 32
"""shapes captured as graphs; further ones run kernel by kernel"""


class GpuScorer:
    """See `dlrm_scorer.Scorer`. graphs: capture the work of each shape as a CUDA graph where there is CUDA."""

    def __init__(self, model: Dlrm, items: ItemFeatures, device: torch.device, *, graphs: bool = True) -> None:
        self._config = model.config
        self._device = device
        self._graphs = graphs and device.type == "cuda"
        self._split = DlrmSplit.of(model).to(device)
        vectors, side = pack_items(model, items)
        self._vectors, self._side = torch.from_numpy(vectors).to(device), torch.from_numpy(side).to(device)
        self._matches = None if model.matches is None else copy.deepcopy(model.matches).to(device)
        codes = items.categorical if model.matches is not None else items.categorical[:, :0]
        self._codes = torch.from_numpy(np.array(codes, np.int32)).to(device)
        self._batches: dict[tuple[int, int], _Batch] = {}
        self._lock = threading.Lock()  # of the batches' memory

    @property
    def nbytes(self) -> int:
        """Memory of the precomputed items on the device."""
        return self._vectors.nbytes + self._side.nbytes + self._codes.nbytes

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
        longest = max(map(len, positions), default=0)
        if longest == 0:
            return [np.empty(0, np.float32) for _ in positions]
        shape = 1 << (len(positions) - 1).bit_length(), -(-longest // CANDIDATES_STEP) * CANDIDATES_STEP
        with self._lock, torch.inference_mode():
            batch = self._batches.get(shape)
            if batch is None:
                length = self._config.history_length
                widths = categorical.shape[1], continuous.shape[1], length, self._codes.shape[1]
                batch = _Batch(shape, *widths, self._device)
                if len(self._batches) < MOST_GRAPHS:
                    self._batches[shape] = batch
                    batch.prepare(self._probabilities, graph=self._graphs)
                else:
                    batch.prepare(self._probabilities, graph=False)
            return batch.run(categorical, continuous, positions, read, offsets)

    def _probabilities(
        self, categorical: Tensor, continuous: Tensor, positions: Tensor, offsets: Tensor, *events: Tensor
    ) -> Tensor:
        """int [B, Q], float [B, user + context columns], int and float [B, N], parts of EventTensors → float [B, N]."""
        split, widths = self._split, self._split.widths
        requests, candidates = positions.shape
        # Of the request alone
        queries = split.vectors(categorical, partial(torch.empty, device=self._device))  # [B, Q, D]
        transposed = queries.transpose(1, 2)
        by_request = continuous @ split.bottom_request  # [B, A]
        dense_columns = transposed @ split.top_dense_request + split.top_dense  # [B, D, H]
        over = torch.cat([dense_columns, split.top_rows.expand(requests, -1, -1)], dim=1)  # [B, K, H]
        over[:, widths.constant] += torch.bmm(queries, transposed).flatten(1) @ split.top_request
        matches, histories = self._matches, EventTensors(*events) if events else None
        if matches is not None and histories is not None:
            over[:, widths.constant] += matches.amounts(histories) @ split.top_amounts
        # Of the item alone, gathered
        rows = positions.flatten()
        vectors = self._vectors.index_select(0, rows)  # [B·N, P·D]
        side = self._side.index_select(0, rows)  # [B·N, item columns + 1 + P(P−1)/2]
        # Of both
        first = side[:, : widths.item_continuous + 1] @ split.bottom_item
        dense = (first.view(requests, candidates, -1) + by_request[:, None]).relu_().flatten(0, 1)  # [B·N, A]
        for weight, bias in split.bottom_rest:
            dense = torch.addmm(bias, dense, weight).relu_()
        by_item = vectors.view(len(rows), widths.item, widths.dim)  # [B·N, P, D]
        request_item = torch.bmm(vectors.view(requests, candidates * widths.item, widths.dim), transposed)
        dense_item = (by_item * dense[:, None]).sum(2)  # [B·N, P]
        columns = [dense, request_item.view(len(rows), -1), dense_item, side[:, widths.item_continuous :]]
        if matches is not None and histories is not None:
            wanted = self._codes.index_select(0, rows).view(requests, candidates, -1)
            columns.append(matches.features(matches.kernels(histories), histories.codes, wanted).flatten(0, 1))
        inputs = torch.cat(columns, dim=1)  # [B·N, K]
        hidden = torch.bmm(inputs.view(requests, candidates, -1), over).flatten(0, 1)  # [B·N, H]
        for weight, bias in split.top_rest:
            hidden = torch.addmm(bias, hidden.relu_(), weight)
        logits = hidden.squeeze(1) + offsets.flatten() * split.offset_scale
        return split.calibration.of_tensor(logits).sigmoid().view(requests, candidates)


class _Batch:
    """Memory of one shape of batch, on both sides, and the work on it.

    length, fields: of histories; length 0: none are read
    """

    def __init__(
        self,
        shape: tuple[int, int],
        categorical: int,
        continuous: int,
        length: int,
        fields: int,
        device: torch.device,
    ) -> None:
        requests, candidates = shape
        self._cuda = device.type == "cuda"

        def pair(dtype: torch.dtype, *columns: int) -> tuple[Tensor, Tensor]:
            """The same memory here, pinned, and on the device; zeros: the unknown user, the first item, no event."""
            here = torch.zeros(requests, *columns, dtype=dtype, pin_memory=self._cuda)
            return here, torch.zeros(requests, *columns, dtype=dtype, device=device)

        self._inputs = [
            pair(torch.int32, categorical), pair(torch.float32, continuous), pair(torch.int32, candidates),
            pair(torch.float32, candidates),
        ]  # fmt: skip
        if length:  # in the order of EventTensors
            self._inputs += [
                pair(torch.int32, length, fields), pair(torch.int32, length), pair(torch.int64, length),
                pair(torch.bool, length),
            ]  # fmt: skip
        self._output = torch.zeros(requests, candidates, pin_memory=self._cuda)
        self._result: Tensor | None = None
        self._work: Callable[[], None] = _nothing

    def prepare(self, compute: Callable[..., Tensor], *, graph: bool) -> None:
        """Make `compute` the work; as a graph where that is wanted and the driver can."""
        there = [on_device for _, on_device in self._inputs]

        def work() -> None:
            self._result = compute(*there)

        self._work = work
        if not graph:
            return
        try:
            # Libraries set themselves up in their first calls, which a graph must not hold.
            beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(3):
                    work()
            torch.cuda.current_stream().wait_stream(beside)
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                work()
        except RuntimeError:  # kernel by kernel is slower and as right
            torch.cuda.synchronize()
            return
        self._work = captured.replay

    def run(
        self,
        categorical: Rows,
        continuous: Floats,
        positions: Sequence[Places],
        histories: EventHistories | None,
        offsets: Sequence[Floats] | None,
    ) -> list[Floats]:
        """Probabilities of each request's candidates. histories: None where none are read."""
        (rows, _), (numbers, _), (places, _), (added, _), *events = self._inputs
        added.zero_()
        for row, offset in zip(added.numpy(), offsets or (), strict=False):
            row[: len(offset)] = offset
        rows.numpy()[: len(categorical)] = categorical
        numbers.numpy()[: len(continuous)] = continuous
        for row, wanted in zip(places.numpy(), positions, strict=False):  # padding keeps what it had: any valid item
            row[: len(wanted)] = wanted
        if histories is not None:
            count, length = histories.there.shape
            given = histories.codes, histories.types, histories.ages, histories.there
            for (here, _), array in zip(events, given, strict=True):
                here.numpy()[:count, :length] = array
            events[-1][0].numpy()[:count, length:] = False
        for here, there in self._inputs:
            there.copy_(here, non_blocking=True)
        self._work()
        assert self._result is not None  # noqa: S101  (the work wrote it)
        self._output.copy_(self._result, non_blocking=True)
        if self._cuda:
            torch.cuda.current_stream().synchronize()
        scores = self._output.numpy()
        return [scores[request, : len(wanted)].copy() for request, wanted in enumerate(positions)]


def _nothing() -> None:
    """Before `prepare`."""
