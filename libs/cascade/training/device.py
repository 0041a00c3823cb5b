"""Where training runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cascade.training.errors import TrainingInputError


def choose_device(name: str = "auto") -> torch.device:
    """The named device; `auto` takes a GPU where there is one. Raises TrainingInputError on one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingInputError(f"device {name!r} is unknown; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingInputError(f"device {name!r} was asked for and there is no GPU; use auto or cpu")
    return device


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute with this many threads on the CPU (None: leave it), and put the former number back."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
