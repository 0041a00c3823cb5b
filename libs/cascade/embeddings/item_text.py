"""The text of an item, as every text encoder reads it."""

from __future__ import annotations


def item_text(title: str | None, description: str | None) -> str:
    """Title and description in one line: the title first, since encoders cut long texts at the end.

    A missing part is left out; white space is folded. Both missing gives the empty string.
    """
    parts = [" ".join(part.split()) for part in (title or "", description or "")]
    first, second = parts
    if first and second:
        # A title that already ends a sentence keeps its own mark.
        return f"{first} {second}" if first[-1] in ".!?:" else f"{first}. {second}"
    return first or second
