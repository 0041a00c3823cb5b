"""Diagrams as SVG in the page, drawn when the site is built: nobody's browser loads a library for them."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import mermaidx

_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts a drawing in the place of each block of mermaid."""
    return _DIAGRAM.sub(lambda block: drawn(block[1]), markdown)


def drawn(source: str) -> str:
    """A figure in one line, so that Markdown takes it as it is; its ids are its own among a page's figures."""
    name = f"diagram-{sha256(source.encode()).hexdigest()[:8]}"
    svg = mermaidx.render(source).svg().replace("my-svg", name)
    return f'<figure class="diagram">{" ".join(svg.split())}</figure>'
