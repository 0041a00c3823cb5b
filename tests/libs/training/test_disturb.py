"""Noise on weights: as much as asked for, the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from cascade.training.disturb import disturb


def test_weights_change_by_their_share_and_by_the_seed() -> None:
    def changed(seed: int) -> torch.Tensor:
        module = torch.nn.Linear(200, 100, bias=False)
        with torch.no_grad():
            module.weight.fill_(2.0)
        disturb(module, 0.3, seed=seed)
        return module.weight.detach()

    first = changed(1)
    assert float((first / 2 - 1).std()) == pytest.approx(0.3, rel=0.05)
    assert float((first / 2 - 1).mean()) == pytest.approx(0, abs=0.01)
    assert torch.equal(first, changed(1))
    assert not torch.equal(first, changed(2))
