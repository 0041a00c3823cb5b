"""Adam, with the rows of large embedding tables updated only when a batch touches them.

A dense step over 300,000 users × 64 costs as much as the network itself; a batch touches a hundredth of them.
All other parameters take torch's fused step: one pass over each instead of a dozen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cascade.training.errors import CheckpointError

SPARSE_FROM = 20_000
"""Tables of at least this many rows get sparse gradients; below, a dense step is quicker."""


class RowAdam(torch.optim.Optimizer):
    """Adam for tables with sparse gradients: moments and weights change in the rows that have a gradient.

    The updates of `torch.optim.SparseAdam` (a test holds them to it): moments decay only when their row is met, the
    bias correction counts all steps. It gathers each row's moments once and writes them back once, where SparseAdam
    builds a sparse tensor for each.
    """

    def __init__(self, tables: Sequence[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(tables, {"lr": lr, "betas": betas, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of the rows that a gradient names, of those that have one."""
        for group in self.param_groups:
            first, second = group["betas"]
            for table in group["params"]:
                if table.grad is None:
                    continue
                state = self.state[table]
                if not state:
                    state["step"] = 0
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
                state["step"] += 1
                gradient = table.grad.coalesce()
                rows, values = gradient.indices()[0], gradient.values()  # [R], [R, D]
                mean = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - first)
                state["exp_avg"].index_copy_(0, rows, mean)
                square = state["exp_avg_sq"].index_select(0, rows).mul_(second)
                square.addcmul_(values, values, value=1 - second)
                state["exp_avg_sq"].index_copy_(0, rows, square)
                step = group["lr"] * math.sqrt(1 - second ** state["step"]) / (1 - first ** state["step"])
                table.index_add_(0, rows, mean.div_(square.sqrt_().add_(group["eps"])), alpha=-step)


class LazyAdam:
    """Adam for a module's trainable parameters, `RowAdam` for its large embedding tables.

    Weight decay (decoupled) reaches the former alone: a row's decay would need every row's update."""

    def __init__(
        self, module: nn.Module, rate: float, sparse_from: int = SPARSE_FROM, weight_decay: float = 0.0
    ) -> None:
        self._rate = rate
        large = [m for m in module.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= sparse_from]
        for table in large:
            table.sparse = True
        sparse_ids = {id(table.weight) for table in large}
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._sparse_names = [name for name, p in named.items() if id(p) in sparse_ids]
        self._dense_names = [name for name, p in named.items() if id(p) not in sparse_ids]
        self._row_tables = [p for p in named.values() if id(p) in sparse_ids]
        self._optimisers: list[tuple[list[str], torch.optim.Optimizer]] = []
        if self._dense_names:
            dense = torch.optim.AdamW(
                [named[name] for name in self._dense_names], lr=rate, weight_decay=weight_decay, fused=True
            )
            self._optimisers.append((self._dense_names, dense))
        if self._sparse_names:
            sparse = RowAdam(self._row_tables, lr=rate)
            self._optimisers.append((self._sparse_names, sparse))

    @property
    def row_tables(self) -> list[nn.Parameter]:
        """The tables that are updated row by row."""
        return self._row_tables

    def zero_grad(self) -> None:
        """Forget the last step's gradients."""
        for _, optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)

    def step(self, share_of_rate: float) -> None:
        """One update at this share of the full rate."""
        for _, optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._rate * share_of_rate
            optimiser.step()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by `parameter/key`, for a checkpoint."""
        return {f"{name}/{key}": torch.as_tensor(value).clone() for name, key, value in self._entries()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `state()`. Raises CheckpointError where it belongs to other parameters."""
        for names, optimiser in self._optimisers:
            content = optimiser.state_dict()
            state: dict[int, dict[str, Any]] = {}
            for index, name in enumerate(names):
                found = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.rpartition("/")[0] == name}
                if found:
                    # RowAdam counts its steps in an int, Adam in a tensor
                    if isinstance(optimiser, RowAdam):
                        state[index] = {k: int(v) if k == "step" else v for k, v in found.items()}
                    else:
                        state[index] = found
            content["state"] = state
            optimiser.load_state_dict(content)
        unknown = {k.rpartition("/")[0] for k in tensors} - {*self._dense_names, *self._sparse_names}
        if unknown:
            raise CheckpointError(f"the checkpoint holds moments of {sorted(unknown)}, which this training lacks")

    def _entries(self) -> Iterator[tuple[str, str, Any]]:
        for names, optimiser in self._optimisers:
            for index, state in optimiser.state_dict()["state"].items():
                for key, value in state.items():
                    yield names[index], key, value
