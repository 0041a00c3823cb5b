"""Picture files as small arrays of pixels."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cascade.embeddings.errors import PictureTooLarge, PictureUnreadable
from cascade.embeddings.progress import Progress
from cascade.embeddings.third_party import import_open_clip

Pixels = NDArray[np.uint8]

MAX_PIXELS = 40_000_000
# What shops use. Pillow reads many more, some by starting other programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DECODERS = 2  # Pillow decodes outside Python's lock
_DECODE_CHUNK = 256


def open_picture(path: Path, *, at_least: int | None = None, max_pixels: int | None = None) -> Image.Image:
    """A picture file as an RGB image, upright, transparency over white.

    at_least: a JPEG may be decoded at a reduced size whose sides are no shorter than this
    max_pixels: a larger picture is refused before it is decoded; 40 million unless given

    Raises PictureTooLarge, PictureUnreadable.
    """
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise PictureTooLarge(path, f"{image.width:,} x {image.height:,}", max_pixels)
            if at_least is not None:
                image.draft("RGB", (at_least, at_least))
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                layer = upright.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
            return upright.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLarge(path, "far too many", max_pixels) from error
    except UnidentifiedImageError as error:
        raise PictureUnreadable(path, f"it is none of {', '.join(FORMATS)}") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        # Pillow's decoders have no common error.
        raise PictureUnreadable(path, str(error)) from error


@dataclass(frozen=True)
class Preprocess:
    """From a picture file to what a model's image tower reads, in two steps that training and encoding share.

    height, width: pixels
    mean, std: float32 [3], of the pixel values as the model expects them, in 0 to 1
    geometry: resizing and cropping or padding, image to image
    """

    height: int
    width: int
    mean: torch.Tensor
    std: torch.Tensor
    geometry: Callable[[Image.Image], Image.Image]

    @classmethod
    def of(cls, model: Any) -> Preprocess:
        """The preprocessing that an open_clip model declares."""
        open_clip = import_open_clip()
        declared = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
        steps = open_clip.transform.image_transform_v2(declared, is_train=False).transforms
        names = [type(step).__name__ for step in steps]
        # open_clip's list is: geometry, conversion to RGB, to tensor, normalise. The last three are done here.
        to_tensor = next(i for i, name in enumerate(names) if name in {"ToTensor", "MaybeToTensor"})
        geometry = list(steps[:to_tensor])

        def apply(image: Image.Image) -> Image.Image:
            for step in geometry:
                image = step(image)
            return image

        _, height, width = declared.input_size
        return cls(
            height,
            width,
            torch.tensor(declared.mean, dtype=torch.float32),
            torch.tensor(declared.std, dtype=torch.float32),
            apply,
        )

    def decode(self, path: Path) -> Pixels:
        """A picture file as uint8 [H, W, 3]. Raises PictureTooLarge, PictureUnreadable."""
        image = self.geometry(open_picture(path, at_least=max(self.height, self.width)))
        return np.array(image.convert("RGB"), dtype=np.uint8)  # a copy: torch takes no read-only arrays

    def normalise(self, pixels: Pixels, device: torch.device) -> torch.Tensor:
        """uint8 [B, H, W, 3] as float32 [B, 3, H, W] on the device."""
        values = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float() / 255.0  # [B, H, W, 3]
        values = (values - self.mean.to(device)) / self.std.to(device)
        return values.permute(0, 3, 1, 2).contiguous()

    def decode_batches(self, paths: Sequence[Path], size: int) -> Iterator[Pixels]:
        """The pictures in order, uint8 [up to size, H, W, 3] at a time, the next ones decoded meanwhile."""
        with ThreadPoolExecutor(_DECODERS) as pool:
            ahead = None
            for start in range(0, len(paths), size):
                following = [pool.submit(self.decode, path) for path in paths[start : start + size]]
                if ahead is not None:
                    yield np.stack([future.result() for future in ahead])
                ahead = following
            if ahead is not None:
                yield np.stack([future.result() for future in ahead])


def decode_all(
    paths: Sequence[Path], preprocess: Preprocess, into: Path | None = None, progress: Progress | None = None
) -> Pixels:
    """All pictures, uint8 [N, H, W, 3]; in a new memory-mapped .npy file `into` where one is named.

    Raises PictureTooLarge, PictureUnreadable.
    """
    shape = (len(paths), preprocess.height, preprocess.width, 3)
    pixels: Pixels
    if into is None:
        pixels = np.empty(shape, dtype=np.uint8)
    else:
        pixels = np.lib.format.open_memmap(into, mode="w+", dtype=np.uint8, shape=shape)
    done = 0
    for batch in preprocess.decode_batches(paths, _DECODE_CHUNK):
        pixels[done : done + len(batch)] = batch
        done += len(batch)
        if progress is not None:
            progress(done, len(paths))
    return pixels
