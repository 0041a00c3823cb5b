"""Formulae as MathML, which browsers set by themselves: no script, no font."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>|<div class="arithmatex">\\\[(?P<block>.*?)\\\]</div>',
    re.DOTALL,
)


def on_page_content(html: str, **_: Any) -> str:
    """Puts MathML in the place of each formula that pymdownx.arithmatex marked."""
    return _FORMULA.sub(_set, html)


def _set(found: re.Match[str]) -> str:
    block = found["block"]
    if block is None:
        return str(convert(unescape(found["inline"])))
    return f'<div class="formula">{convert(unescape(block).strip(), display="block")}</div>'
