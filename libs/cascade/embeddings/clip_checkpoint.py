"""Where a training of CLIP goes on after it was interrupted.

One folder an epoch: weights and the optimiser's moments as safetensors, the rest as JSON. The folder appears whole
or not at all, and the one before is removed after that.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cascade.embeddings.errors import ClipCheckpointBroken
from cascade.files import replacing_folder, sha256_of_file

_STATE = "state.json"
_MODEL = "model.safetensors"
_OPTIMISER = "optimiser.safetensors"


@dataclass
class TrainingState:
    """How far a training is.

    epoch: epochs completed
    step_losses: one number a step so far
    epoch_losses: the mean loss of each epoch so far
    """

    epoch: int
    step_losses: list[float]
    epoch_losses: list[float]


class Checkpoints:
    """The checkpoints of one training.

    folder: holds one folder an epoch
    fingerprint: names the training's inputs and settings; a checkpoint of another fingerprint is not continued
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def save(self, state: TrainingState, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write a checkpoint and remove the older ones."""
        target = self._folder / f"epoch-{state.epoch:05d}"
        with replacing_folder(target) as fresh:
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, fresh / _MODEL)
            moments = {
                f"{index}.{name}": value.contiguous()
                for index, values in optimiser.state_dict()["state"].items()
                for name, value in values.items()
            }
            save_file(moments, fresh / _OPTIMISER)
            content = {
                "fingerprint": self._fingerprint,
                "epoch": state.epoch,
                "step_losses": state.step_losses,
                "epoch_losses": state.epoch_losses,
                "sha256": {name: sha256_of_file(fresh / name) for name in (_MODEL, _OPTIMISER)},
            }
            (fresh / _STATE).write_text(json.dumps(content))
        for older in self._folders():
            if older != target:
                shutil.rmtree(older)

    def resume(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> TrainingState:
        """Put the newest checkpoint of this training into model and optimiser; epoch 0 if there is none.

        Raises ClipCheckpointBroken: its files are not those it was written with.
        """
        folders = self._folders()
        if not folders:
            return TrainingState(0, [], [])
        newest = folders[-1]
        try:
            content: dict[str, Any] = json.loads((newest / _STATE).read_text())
            if content["fingerprint"] != self._fingerprint:
                return TrainingState(0, [], [])
            for name, expected in content["sha256"].items():
                if sha256_of_file(newest / name) != expected:
                    raise ClipCheckpointBroken(newest, f"{name} is not the file that was written")
            state = TrainingState(content["epoch"], content["step_losses"], content["epoch_losses"])
            model.load_state_dict(load_file(newest / _MODEL))
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in load_file(newest / _OPTIMISER).items():
                index, _, moment = name.partition(".")
                moments.setdefault(int(index), {})[moment] = value
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ClipCheckpointBroken(newest, f"{type(error).__name__}: {error}") from error
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        return state

    def clear(self) -> None:
        """Remove all checkpoints: the training is over."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _folders(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*"))
