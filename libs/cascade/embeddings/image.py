"""Pictures as vectors, by the image tower of an open_clip model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from cascade.embeddings.clip_model import CONFIG_FILE
from cascade.embeddings.device import pick_device
from cascade.embeddings.errors import EncoderUnavailable
from cascade.embeddings.fingerprint import fingerprint_of
from cascade.embeddings.pictures import Preprocess
from cascade.embeddings.progress import Progress
from cascade.embeddings.third_party import import_open_clip


class ImageEncoder:
    """Encodes pictures with the image tower of an open_clip model.

    name_or_path: one of
        a folder with open_clip_config.json and safetensors weights, such as `train_clip` writes;
        `ViT-B-32/laion2b_s34b_b79k`, a model name and a tag of pretrained weights, which open_clip downloads;
        `ViT-B-32//path/to/weights.safetensors`, a model name, a slash and a file of weights;
        `hf-hub:owner/name`, a model of the hub
    device: None takes a GPU where there is one

    Raises EncoderUnavailable: the model is not there or does not load.
    """

    def __init__(self, name_or_path: str | Path, *, device: str | None = None) -> None:
        self.name = str(name_or_path)
        self._device = pick_device(device)
        self._model = _load(self.name).to(self._device).eval()
        self._preprocess = Preprocess.of(self._model)
        blank = np.zeros((1, self._preprocess.height, self._preprocess.width, 3), dtype=np.uint8)
        self._dim = int(self._forward(blank).shape[1])

    @property
    def dim(self) -> int:
        """How many numbers a picture becomes."""
        return self._dim

    def fingerprint(self) -> str:
        """The sha256 of the image tower's weights and of its preprocessing, in hex."""
        return fingerprint_of(self._model.visual, repr(sorted(self._model.visual.preprocess_cfg.items())))

    def encode(
        self, paths: Sequence[Path | None], *, batch_size: int = 64, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """paths [N] as float32 [N, D] of norm 1, in the given order; None gives a row of zeros.

        Every picture's row has norm 1, so `rows.any(axis=1)` tells pictures from their absence.

        progress: called with the number of pictures done and their total

        Raises PictureTooLarge, PictureUnreadable: they name the file.
        """
        encoded = np.zeros((len(paths), self._dim), dtype=np.float32)
        rows = [row for row, path in enumerate(paths) if path is not None]
        present = [path for path in paths if path is not None]
        done = 0
        for pixels in self._preprocess.decode_batches(present, batch_size):
            encoded[rows[done : done + len(pixels)]] = self._forward(pixels)
            done += len(pixels)
            if progress is not None:
                progress(done, len(present))
        return encoded

    def _forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images = self._preprocess.normalise(pixels, self._device)  # [B, 3, H, W]
            vectors = self._model.encode_image(images, normalize=True)  # [B, D]
            result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result


def _load(name: str) -> Any:
    open_clip = import_open_clip()
    model, pretrained = _resolve(name)
    try:
        return open_clip.create_model(model, pretrained=pretrained, require_pretrained=True, weights_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError) as error:
        raise EncoderUnavailable(
            name,
            f"{error}; give a folder with {CONFIG_FILE} and safetensors weights, or MODEL/TAG as "
            "open_clip.list_pretrained() shows them",
        ) from error


def _resolve(name: str) -> tuple[str, str | None]:
    """open_clip's model name and weights for a name or path."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    folder = Path(name)
    if folder.is_dir():
        if not any(folder.glob("*.safetensors")):
            raise EncoderUnavailable(name, "the folder holds no .safetensors weights; pickled ones are not loaded")
        return f"local-dir:{name}", None
    model, slash, pretrained = name.partition("/")
    if not slash or not pretrained:
        raise EncoderUnavailable(
            name, "it is neither a folder nor MODEL/TAG; ViT-B-32/laion2b_s34b_b79k is an example of the latter"
        )
    return model, pretrained
