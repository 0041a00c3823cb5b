"""A training's state between two steps, in one safetensors file: weights, moments, and a JSON of counters.

Random numbers need no state here: every step draws from a generator seeded by (seed, epoch, step).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cascade.files import replacing
from cascade.training.errors import CheckpointError

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What continuing needs.

    run: names the training (settings, seed, data); counters: JSON values; tensors by `group:name`
    """

    run: str
    counters: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors of one group, without its prefix."""
        prefix = f"{name}:"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def grouped(**groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Groups of named tensors under one another, as `group:name`."""
    return {f"{group}:{name}": value for group, values in groups.items() for name, value in values.items()}


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint; an interruption leaves the former one whole."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    with replacing(folder / FILE) as beside:
        save_file(tensors, beside, {"run": checkpoint.run, "counters": json.dumps(checkpoint.counters)})


def load(folder: Path, run: str) -> Checkpoint | None:
    """The folder's checkpoint of this very run; None where there is none or it belongs to another run.

    Another run's checkpoint (other settings, seed or data) is no fault: the new run replaces it.
    Raises CheckpointError where the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("run") != run:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
        return Checkpoint(run, json.loads(metadata["counters"]), tensors)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it to train from the start") from error


def clear(folder: Path) -> None:
    """Remove the checkpoint of a finished training."""
    (folder / FILE).unlink(missing_ok=True)
