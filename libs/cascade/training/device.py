"""Where training runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cascade.models import device
from cascade.models.errors import DeviceError
from cascade.training.errors import TrainingInputError


def choose_device(name: str = "auto") -> torch.device:
    """The named device; `auto` takes a GPU where there is one. Raises TrainingInputError on one that is not there."""
    try:
        return device.choose_device(name)
    except DeviceError as error:
        raise TrainingInputError(str(error)) from error


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
