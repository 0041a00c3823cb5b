"""Small pictures as data URIs, as many as a bounded page has room for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from cascade.embeddings.errors import PictureUnreadable
from cascade.embeddings.pictures import open_picture

SIDE = 72
"""Pixels; shown at 1.5 times that."""
BUDGET = 2_000_000
"""Characters of all data URIs of a page together."""
_QUALITY = 60
_PREFIX = "data:image/webp;base64,"


def thumbnails(paths: Iterable[Path | None], budget: int = BUDGET) -> list[str | None]:
    """A data URI a picture, None where there is none, it cannot be read, or the budget is spent."""
    found: list[str | None] = []
    spent = 0
    for path in paths:
        uri = None if path is None or spent >= budget else _thumbnail(path)
        if uri is not None and spent + len(uri) > budget:
            uri, spent = None, budget  # a smaller one later would make the choice depend on sizes
        spent += len(uri or "")
        found.append(uri)
    return found


def _thumbnail(path: Path) -> str | None:
    try:
        image = open_picture(path, at_least=SIDE)
    except PictureUnreadable:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=_QUALITY, method=4)
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode()
