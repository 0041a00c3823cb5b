"""Where encoders run."""

from __future__ import annotations

import torch


def pick_device(wanted: str | None = None) -> torch.device:
    """The device asked for, or the first GPU where there is one, or the CPU."""
    if wanted is not None:
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
