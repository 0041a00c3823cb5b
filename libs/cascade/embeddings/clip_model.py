"""The small CLIP: its shape, and the folder it is kept in.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv:2103.00020; the model class is open_clip's, and so is the folder's layout, so that any program that uses
open_clip loads it as `local-dir:<folder>`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cascade.embeddings.third_party import import_open_clip
from cascade.files import replacing

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


@dataclass(frozen=True)
class ClipShape:
    """The two towers' sizes. A step of 128 pairs takes 0.2 s on two cores."""

    image_size: int = 64  # pixels a side
    patch_size: int = 16  # 16 patches a picture; patches of 8 see finer detail at 2.6 times the time
    image_width: int = 128
    image_layers: int = 4
    text_width: int = 128
    text_layers: int = 2
    context_length: int = 32  # tokens; longer texts are cut
    embed_dim: int = 128
    head_width: int = 64  # of an attention head, in both towers

    def open_clip_config(self, context_length: int | None = None) -> dict[str, Any]:
        """open_clip's description of this model and of the pictures it reads."""
        return {
            "model_cfg": {
                "embed_dim": self.embed_dim,
                "vision_cfg": {
                    "image_size": self.image_size,
                    "patch_size": self.patch_size,
                    "width": self.image_width,
                    "layers": self.image_layers,
                    "head_width": self.head_width,
                },
                "text_cfg": {
                    "context_length": context_length or self.context_length,
                    "vocab_size": 49408,  # open_clip's tokenizer
                    "width": self.text_width,
                    "heads": self.text_width // self.head_width,
                    "layers": self.text_layers,
                },
            },
            # A product picture is padded with white, never cropped: the edge of a product tells its kind.
            "preprocess_cfg": {"resize_mode": "longest", "fill_color": 255, "interpolation": "bicubic"},
        }


def create_clip(config: dict[str, Any], seed: int) -> torch.nn.Module:
    """A freshly initialised model of an `open_clip_config`, the same for the same seed."""
    open_clip = import_open_clip()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: torch.nn.Module = open_clip.CLIP(**config["model_cfg"])
    preprocess = {"size": config["model_cfg"]["vision_cfg"]["image_size"], **config["preprocess_cfg"]}
    whole = open_clip.transform.merge_preprocess_dict(open_clip.transform.PreprocessCfg(), preprocess)
    open_clip.model.set_model_preprocess_cfg(model, whole)
    return model


def save_clip(model: torch.nn.Module, config: dict[str, Any], folder: Path) -> None:
    """Write the model where `ImageEncoder` finds it; the configuration last, so that no half is ever loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    with replacing(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}, temporary)
    with replacing(folder / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")
