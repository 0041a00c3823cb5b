"""The formulas by hand, held to torch's own count of matrix products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import costs
from cascade.models import Dlrm, DlrmConfig, QueryTower, TwoTowerConfig
from cascade.models.dlrm_scorer import packed_bytes
from cascade.models.dlrm_split import DlrmSplit
from cascade.models.layers import embedding_dim
from cascade.models.matches import EventTensors

CONFIG = DlrmConfig((11, 4, 7, 5), (21, 5, 6, 4), (4,), 1, 1, 4)
READING = replace(CONFIG, history_length=50, history_event_types=6)
LOOKING = replace(READING, attention_heads=2)
ROWS = 10


def counted(module: torch.nn.Module, *inputs: object) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("config", [CONFIG, READING, LOOKING])
def test_the_networks_flops(config: DlrmConfig) -> None:
    categorical = torch.zeros(ROWS, 9, dtype=torch.int32)
    events = EventTensors(
        torch.zeros(ROWS, 50, 4, dtype=torch.int32), torch.zeros(ROWS, 50, dtype=torch.int32),
        torch.zeros(ROWS, 50, dtype=torch.int64), torch.ones(ROWS, 50, dtype=torch.bool),
    )  # fmt: skip
    found = counted(
        Dlrm(config), categorical, torch.zeros(ROWS, 6), torch.zeros(ROWS, 64), torch.zeros(ROWS, 64), events
    )
    twice = 2 * ROWS * (12 * 12 - 66) * 64  # the network multiplies every pair both ways, and each vector with itself
    assert found - twice == ROWS * costs.dlrm_row_flops(config)


def test_the_query_towers_flops() -> None:
    config = TwoTowerConfig((11, 4, 7, 5), 1, (2,), 1)
    widths = [embedding_dim(rows, config.embedding_cap) for rows in config.user_cardinalities]
    found = counted(QueryTower(config), torch.zeros(ROWS, 4, dtype=torch.int32), torch.zeros(ROWS, 1))
    assert found == ROWS * costs.query_tower_flops(config, widths)


@pytest.mark.parametrize("config", [CONFIG, READING, LOOKING])
def test_the_packed_rows_flops_are_the_sizes_of_its_matrices(config: DlrmConfig) -> None:
    split = DlrmSplit.of(Dlrm(config))
    layers = [split.bottom_item, torch.cat([split.top_dense, split.top_rows])]
    layers += [weight for weight, _ in split.bottom_rest + split.top_rest]
    dots = split.widths.item * (split.widths.request + 1) * config.dim
    looks = 2 * config.attention_heads * config.attention_dim * config.history_length
    assert costs.packed_row_flops(config) == 2 * (sum(layer.numel() for layer in layers) + dots + looks)
    assert costs.packed_row_flops(config) < costs.dlrm_row_flops(config)


def test_300_candidates_at_the_default_sizes() -> None:
    assert 300 * costs.dlrm_row_flops(CONFIG) == pytest.approx(29e6, rel=0.02)
    assert 300 * costs.packed_row_flops(CONFIG) == pytest.approx(21.5e6, rel=0.02)


def test_bytes_gathered_are_those_kept() -> None:
    for config, bytes_each in ((CONFIG, 1604), (READING, 1620), (LOOKING, 1684)):
        assert 2 * packed_bytes(config, 1) == costs.packed_row_bytes(config) == 2 * bytes_each
    assert costs.flat_search_bytes(5, 64) == np.zeros((5, 64), np.float32).nbytes
