"""Reading and writing of feature artifacts: whole or not at all, JSON, Parquet and .npy alone.

A folder's JSON description is written last.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.features.errors import FeatureFileCorruptedError, FeatureFileMissingError, FeatureFormatError
from cascade.files import replacing

FORMAT = 1
"""The format this release writes; it reads this one and older."""


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as readable JSON; floats survive exactly. Raises ValueError on NaN or infinity."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Read what `write_json` wrote, checking its `kind` and `format` fields.

    Raises FeatureFileMissingError, FeatureFileCorruptedError (no JSON object), FeatureFormatError (another
    kind, or a newer format).
    """
    if not path.is_file():
        raise FeatureFileMissingError(path, f"no such file; save a {kind} there first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FeatureFileCorruptedError(path, f"not JSON ({error}); build it again") from error
    if not isinstance(content, dict):
        raise FeatureFileCorruptedError(path, f"holds a {type(content).__name__}, not an object; build it again")
    check_format(path, kind, content.get("kind"), content.get("format"))
    return content


def check_format(path: Path, kind: str, found_kind: object, found_format: object) -> None:
    """Raise FeatureFormatError unless the file is a `kind` in a format this release reads."""
    if found_kind != kind:
        raise FeatureFormatError(path, f"holds {found_kind!r}, expected {kind!r}")
    if not isinstance(found_format, int) or found_format < 1:
        raise FeatureFormatError(path, f"format {found_format!r} is not a format number; build it again")
    if found_format > FORMAT:
        raise FeatureFormatError(
            path,
            f"format {found_format} is newer than {FORMAT}, the newest this release reads; update Cascade",
        )


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one array as .npy."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_array(path: Path, dtype: type[np.generic], shape: tuple[int | None, ...], *, mmap: bool) -> NDArray[Any]:
    """Read one array, checking its dtype and shape (None: any length); memory-mapped read-only on request."""
    if not path.is_file():
        raise FeatureFileMissingError(path, "no such file; build the folder again")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FeatureFileCorruptedError(path, f"not a readable .npy array ({error}); build it again") from error
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise FeatureFileCorruptedError(
            path, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}; build it again"
        )
    return array


def hash_json(content: object) -> str:
    """sha256 hex of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_arrays(arrays: dict[str, NDArray[Any]]) -> str:
    """sha256 hex of named arrays: names, dtypes, shapes and content."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        # The buffer itself, without a copy: a memory-mapped table is read once and not held.
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
