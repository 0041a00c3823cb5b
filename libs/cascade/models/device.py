"""Where a network runs."""

from __future__ import annotations

import torch

from cascade.models.errors import DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """The named device; `auto` takes a GPU where there is one. Raises DeviceError on one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is unknown; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name!r} was asked for and there is no GPU; use auto or cpu")
    return device
