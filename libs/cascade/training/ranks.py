"""Several processes train one model: what each of them knows of the others.

Each holds all weights, draws the random numbers of the whole batch and computes a part of it. Then P processes do what
one does, but for the order in which floats are summed: negatives are the whole batch's, and so is every gradient.

- small parameters: torch's DistributedDataParallel averages their gradients while it computes them (Li et al. 2020,
  "PyTorch Distributed: Experiences on Accelerating Data Parallel Training")
- rows of large tables: `share_rows` brings together the ids and gradients of the rows that any process met
- vectors that all rows compete against: `Ranks.gathered`, whose gradient comes back from every process

A loss is the mean over a process's own part; times `Ranks.weight` its average over the processes is the whole batch's.

Shapes: P processes, N things to share out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Part:
    """Which of N things a process computes: ceil(N / P) of them, so that all processes have as many.

    at: their places, int64 [ceil(N / P)], or all of them
    filled: so many at the end are repeats, to be computed and not counted
    """

    at: NDArray[np.int64] | slice
    filled: int = 0

    def only(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool [N, ...] → this part's, False for repeats."""
        mine: NDArray[np.bool_] = flags[self.at]
        if self.filled:
            mine[-self.filled :] = False
        return mine


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; one alone does everything."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether it is this process that judges and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of so many rows are this process's; shares differ by one row at most."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def part(self, count: int) -> Part:
        """Which of N things are this process's, as many as every other's."""
        if self.world == 1:
            return Part(slice(None))
        each = -(-count // self.world)
        places = np.arange(each * self.rank, each * (self.rank + 1))
        return Part(np.minimum(places, count - 1), int((places >= count).sum()))

    def weight(self, mine: float, whole: float) -> float:
        """What a mean over `mine` of `whole` rows counts, for the average over all processes to be the whole's mean."""
        return mine * self.world / whole if self.world > 1 and whole else 1.0

    def gathered(self, part: Tensor, count: int) -> Tensor:
        """Everyone's `part(count)`, [ceil(N / P), D] each → all N in order, float [N, D], to be differentiated."""
        if self.world == 1:
            return part
        whole: Tensor = _Gathered.apply(part, self)  # type: ignore[no-untyped-call]
        return whole[:count]

    def mean(self, value: Tensor) -> float:
        """The average of the processes' scalars, the same number in each."""
        if self.world == 1:
            return float(value.detach())
        total = value.detach().clone()
        dist.all_reduce(total)
        return float(total) / self.world

    def told(self, value: float | None) -> float | None:
        """What the first process gives, in every process."""
        if self.world == 1:
            return value
        said = torch.tensor([value is not None, value or 0.0], dtype=torch.float64, device=_wire())
        dist.broadcast(said, src=0)
        known, number = said.tolist()
        return number if known else None


def current() -> Ranks:
    """This process's place, as torch.distributed was told; alone where it was not."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


class _Gathered(torch.autograd.Function):
    """All processes' tensors one under another; a gradient is the sum of what all of them say of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.rows = ranks, len(part)
        parts = [torch.empty_like(part) for _ in range(ranks.world)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows * ctx.ranks.rank : ctx.rows * (ctx.ranks.rank + 1)], None


def replicated(loss: nn.Module, tables: Sequence[nn.Parameter]) -> nn.Module:
    """The module with its gradients averaged over the processes, those of the tables (`share_rows`) left out."""
    # DDP would all-reduce sparse gradients, which gloo can and NCCL cannot; torchrec leaves its tables out likewise.
    apart = {id(table) for table in tables}
    names = [name for name, value in loss.named_parameters() if id(value) in apart]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(loss, names)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(loss, forward_sync_buffers=False)


def share_rows(tables: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Give every process the average of all processes' sparse gradients: of each table the rows that any of them met.

    Rows come in the processes' order, so that all sum them alike and their tables stay equal to the bit.
    """
    if ranks.world == 1 or not tables:
        return
    mine = [_rows_of(table) for table in tables]
    counts = torch.tensor([len(ids) for ids, _ in mine], device=_wire())
    everyones = [torch.empty_like(counts) for _ in range(ranks.world)]
    dist.all_gather(everyones, counts)
    of_table = torch.stack(everyones).T.tolist()  # [tables][P]
    for table, (ids, values), lengths in zip(tables, mine, of_table, strict=True):
        together = _together(ids, lengths), _together(values, lengths)
        table.grad = torch.sparse_coo_tensor(together[0][None], together[1] / ranks.world, table.shape)


def _rows_of(table: nn.Parameter) -> tuple[Tensor, Tensor]:
    """Ids int64 [R] and gradients float [R, D] of the rows that this process met."""
    if table.grad is None:
        return table.new_empty(0, dtype=torch.int64), table.new_empty(0, table.shape[1])
    gradient = table.grad.coalesce()
    return gradient.indices()[0], gradient.values()


def _together(mine: Tensor, lengths: list[int]) -> Tensor:
    """Tensors of these lengths, a process each, one under another."""
    longest = max(lengths)
    padded = mine.new_zeros(longest, *mine.shape[1:])
    padded[: len(mine)] = mine
    everyones = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(everyones, padded)
    return torch.cat([one[:length] for one, length in zip(everyones, lengths, strict=True)])


def _wire() -> torch.device:
    """Where a tensor must be for the processes to exchange it."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
