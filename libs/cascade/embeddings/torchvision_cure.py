"""Importing torchvision where its compiled part does not load.

torchvision's compiled part is linked against CUDA libraries. Beside a CPU build of torch it stays unloaded,
`torchvision::nms` is then missing, `import torchvision` raises RuntimeError, and open_clip, timm and
sentence-transformers fail with it. The encoders never call these operators (they suppress overlapping boxes in
object detection), so declaring their signatures is enough for the import to pass.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

import torch

from cascade.embeddings.errors import EncoderUnavailable

# Operators that torchvision's Python part refers to while it is imported.
_SIGNATURES = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_lock = threading.Lock()
# Declarations end with the object that made them, so it lives as long as the process.
_declarations: list[Any] = []


def import_torchvision() -> ModuleType | None:
    """torchvision, cured if it needs it; None where it is not installed.

    Call it before importing open_clip, timm or sentence_transformers. It changes nothing where torchvision
    imports by itself.

    Raises EncoderUnavailable when torchvision does not import even so.
    """
    with _lock:
        try:
            return importlib.import_module("torchvision")
        except ModuleNotFoundError as error:
            if error.name == "torchvision":
                return None
            raise
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
        _forget_half_import()
        _declare_missing_operators()
        try:
            return importlib.import_module("torchvision")
        except (ImportError, RuntimeError) as error:
            raise EncoderUnavailable(
                "torchvision",
                f"it does not import beside torch {torch.__version__} ({error}); install the pair of versions "
                "that this project pins",
            ) from error


def _forget_half_import() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare_missing_operators() -> None:
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, signature in _SIGNATURES.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(signature)
    _declarations.append(library)
