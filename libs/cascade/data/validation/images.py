"""Rules for product pictures: inside images/, there, whole, and not too large to decode."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from cascade.data.contract import IMAGES, ITEMS, safe_image_path
from cascade.data.files import Progress
from cascade.data.validation.faults import Findings

MAX_FILE_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
DECODED = 10_000
"""Up to so many pictures are decoded whole; of more, an even sample is, and the others' headers are read."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

Problem = tuple[str, str]
"""A rule's name, and what it wants."""


def check_images(root: Path, images: pa.Array, findings: Findings, progress: Progress) -> None:
    """images: the column of items.parquet."""
    names = images.to_pylist()
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        if name is not None:
            rows.setdefault(name, row)
    blank = pc.fill_null(pc.equal(pc.utf8_length(images), 0), False).to_numpy(zero_copy_only=False)
    findings.add_rows(ITEMS, "image", "empty", "an item without a picture has null", blank, images)
    rows.pop("", None)
    step = max(1, -(-len(rows) // DECODED))
    work = [(root / IMAGES, name, n % step == 0) for n, name in enumerate(rows)]
    for (_, name, _), problem in zip(work, _look_at_all(work, progress), strict=True):
        if problem is not None:
            rule, message = problem
            findings.add(ITEMS, "image", rule, message, [f"row {rows[name]}: {name!r}"])


def _look_at_all(work: list[tuple[Path, str, bool]], progress: Progress) -> Iterator[Problem | None]:
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:  # Pillow decodes without the interpreter's lock
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower limit comes next
        for done, problem in enumerate(pool.map(_look_at, work), 1):
            yield problem
            if done % 64 == 0 or done == len(work):
                progress("checking pictures", done, len(work))


def _look_at(task: tuple[Path, str, bool]) -> Problem | None:
    images, name, whole = task
    try:
        path = safe_image_path(images, name)
    except (OSError, RuntimeError, ValueError):  # a name no file system can hold, or links in a circle
        path = None
    if path is None:
        return "outside-folder", "an image is a path below images/, without '..', root, backslash or link out of it"
    if not path.is_file():
        return "missing-image", "there is no such file below images/; bring it, or use null"
    if path.stat().st_size > MAX_FILE_BYTES:
        return "too-large", f"a picture has at most {MAX_FILE_BYTES // 2**20} MiB and {MAX_PIXELS:,} pixels"
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return "too-large", f"a picture has at most {MAX_FILE_BYTES // 2**20} MiB and {MAX_PIXELS:,} pixels"
            if whole:
                picture.draft("RGB", (64, 64))  # JPEG decodes at an eighth of the cost; other formats ignore it
                picture.load()
    except Image.DecompressionBombError:
        return "too-large", f"a picture has at most {MAX_FILE_BYTES // 2**20} MiB and {MAX_PIXELS:,} pixels"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        del error  # Pillow's words name the path of this machine; the fault names the item's row
        return "not-a-picture", f"it cannot be decoded as {', '.join(_FORMATS)}; export it again, or use null"
    return None
