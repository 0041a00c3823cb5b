from __future__ import annotations

import pytest
import torch
from torch import nn

from cascade.training.errors import CheckpointError
from cascade.training.optimiser import LazyAdam, RowAdam


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"large": nn.Embedding(50, 4), "small": nn.Embedding(5, 4), "line": nn.Linear(4, 1)})


def step(net: nn.ModuleDict, optimiser: LazyAdam, row: int) -> None:
    at = torch.tensor([row])
    optimiser.zero_grad()
    net["line"](net["large"](at) + net["small"](at)).sum().backward()
    optimiser.step(1.0)


def test_only_touched_rows_of_a_large_table_move() -> None:
    net = network()
    optimiser = LazyAdam(net, 0.1, sparse_from=20)
    assert net["large"].sparse
    assert not net["small"].sparse
    before = net["large"].weight.detach().clone()
    step(net, optimiser, 3)
    step(net, optimiser, 4)
    moved = (net["large"].weight.detach() != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [3, 4]


def test_rows_move_as_under_sparse_adam() -> None:
    torch.manual_seed(1)
    tables = [nn.Embedding(30, 4, sparse=True) for _ in range(2)]
    tables[1].load_state_dict(tables[0].state_dict())
    optimisers = [RowAdam([tables[0].weight], 0.05), torch.optim.SparseAdam([tables[1].weight], 0.05)]
    for _ in range(20):
        rows, toward = torch.randint(0, 30, (12,)), torch.randn(12, 4)  # some rows twice
        for table, optimiser in zip(tables, optimisers, strict=True):
            optimiser.zero_grad()
            (table(rows) * toward).sum().backward()
            optimiser.step()
    torch.testing.assert_close(tables[0].weight, tables[1].weight, rtol=1e-5, atol=1e-6)


def test_other_parameters_move_as_under_plain_adam() -> None:
    one, two = network(), network()
    lazy = LazyAdam(one, 0.1, weight_decay=0.01)
    plain = torch.optim.AdamW(two.parameters(), 0.1, weight_decay=0.01, fused=False)
    for row in range(5):
        step(one, lazy, row)
        plain.zero_grad()
        at = torch.tensor([row])
        two["line"](two["large"](at) + two["small"](at)).sum().backward()
        plain.step()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_a_frozen_parameter_stays() -> None:
    net = network()
    net["line"].requires_grad_(False)
    before = net["line"].weight.clone()
    optimiser = LazyAdam(net, 0.1)
    step(net, optimiser, 2)
    torch.testing.assert_close(net["line"].weight, before)


@pytest.mark.parametrize("sparse_from", [20, 1000])
def test_state_continues_where_it_was(sparse_from: int) -> None:
    one, two = network(), network()
    first = LazyAdam(one, 0.1, sparse_from)
    step(one, first, 3)
    second = LazyAdam(two, 0.1, sparse_from)
    two.load_state_dict(one.state_dict())
    second.load_state(first.state())
    step(one, first, 3)
    step(two, second, 3)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=0)


def test_state_of_other_parameters_is_refused() -> None:
    optimiser = LazyAdam(network(), 0.1)
    with pytest.raises(CheckpointError, match="elsewhere"):
        optimiser.load_state({"elsewhere/step": torch.tensor(1.0)})
