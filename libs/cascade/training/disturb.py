"""Weights with noise on them: a model that is worse on purpose, to try what finds it so."""

from __future__ import annotations

import torch


def disturb(module: torch.nn.Module, share: float, *, seed: int) -> None:
    """Change every weight in place: w → w · (1 + share · z), z normal, drawn with the seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.mul_(1 + share * noise.to(parameter))
