"""The encoder libraries, imported late and in the one order that works.

Both take seconds to import, so nothing here runs until an encoder is made.
"""

from __future__ import annotations

import importlib
from typing import Any

from cascade.embeddings.errors import EncoderUnavailable
from cascade.embeddings.torchvision_cure import import_torchvision


def import_open_clip() -> Any:
    """The `open_clip` module."""
    return _import("open_clip", "open-clip-torch")


def import_sentence_transformers() -> Any:
    """The `sentence_transformers` module."""
    return _import("sentence_transformers", "sentence-transformers")


def _import(module: str, package: str) -> Any:
    import_torchvision()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise EncoderUnavailable(module, f"install the package {package} (extra: orchestration)") from error
