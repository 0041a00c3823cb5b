"""How a network lies in a folder: `config.json` (kind, format, configuration) and `weights.safetensors`.

Both files are written beside their target and renamed, so a reader never meets half a file.
safetensors is imported by those who read or write: the networks themselves need torch and NumPy alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade.files import replacing
from cascade.models.errors import ModelFileError, ModelFormatError

FORMAT = 3
"""Raised when a saved network can no longer be read by an older release; 2: query towers have modes, 3: rankers may
read histories."""

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"


def save(folder: Path, module: nn.Module, kind: str, config: Mapping[str, Any]) -> None:
    """Write a network's configuration and weights into `folder`, which is created."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with replacing(folder / WEIGHTS_FILE) as beside:
        save_file(weights, beside)
    text = json.dumps({"kind": kind, "format": FORMAT, "config": dict(config)}, indent=2, sort_keys=True)
    with replacing(folder / CONFIG_FILE) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """The configuration of the network of this kind saved in `folder`.

    Raises ModelFileError where there is none, ModelFormatError where it is newer than this release.
    """
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found_kind, found_format, config = content["kind"], content["format"], content["config"]
    except FileNotFoundError as error:
        raise ModelFileError(f"no saved model at {path}; save one there or give another folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is no model's configuration ({error}); save the model again") from error
    if not isinstance(found_format, int) or found_format > FORMAT:
        raise ModelFormatError(
            f"{path} has format {found_format!r} and this release reads up to {FORMAT}; "
            "update Cascade, or train the model with this release"
        )
    if found_kind != kind:
        raise ModelFileError(f"{path} holds a {found_kind!r}, not a {kind!r}; give that model's folder")
    if not isinstance(config, dict):
        raise ModelFileError(f"{path} has no configuration object; save the model again")
    return config


def load_weights(folder: Path, module: nn.Module) -> None:
    """Fill `module` with the weights saved in `folder`. Raises ModelFileError where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS_FILE
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise ModelFileError(f"no weights at {path}; the model's folder is incomplete") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelFileError(f"the weights in {path} are damaged or of another network: {error}") from error


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration read from JSON, its lists turned back into the tuples of a dataclass."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of named tensors, the same for the same values wherever and whenever they were saved."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
