"""Fenced code blocks of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A block. answer: the block of JSON that follows it with nothing between, as what it prints"""

    page: str
    line: int
    language: str
    text: str
    answer: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """The README and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fences(page: Path) -> Iterator[Fence]:
    """All of a page."""
    text = page.read_text()
    found = list(_FENCE.finditer(text))
    for one, following in zip(found, [*found[1:], None], strict=False):
        shown = following is not None and following[1] == "json" and not text[one.end() : following.start()].strip()
        answer = following[2] if following is not None and shown else None
        line = text.count("\n", 0, one.start()) + 1
        yield Fence(str(page.relative_to(ROOT)), line, one[1], one[2], answer)
