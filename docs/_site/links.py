"""Pages from beside docs/, and links that hold on the site as they do in the repository.

Links in the repository lead anywhere in it. On the site a link to a page leads to that page; one to a file that is no
page becomes the file's name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "retrieval", "filter", "ranker", "features")
BESIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "readme.md",
    **{f"services/{name}/README.md": f"services/{name}.md" for name in SERVICES},
}
"""Page outside docs/, by its path in the repository → its place on the site."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, *, config: Any) -> Any:
    """Adds the pages."""
    for path, place in BESIDE.items():
        files.append(File.generated(config, place, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Leads links to where things are on the site; code stays as it is."""
    place: str = page.file.src_uri
    of = {there: path for path, there in BESIDE.items()}
    here = posixpath.dirname(of.get(place, f"docs/{place}"))
    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _led(link, here, place), part) for part in parts[::2]]
    return "".join(parts)


def _led(link: re.Match[str], here: str, place: str) -> str:
    text, target = link.groups()
    path, _, anchor = target.partition("#")
    if not path or ":" in path:
        return link.group()
    there = posixpath.normpath(posixpath.join(here, path))
    page = BESIDE.get(there) or (there.removeprefix("docs/") if there.startswith("docs/") else None)
    if page is None:
        if not (ROOT / there).exists():
            return link.group()  # the strict build says so
        return text if there in text or "`" in text else f"{text} (`{there}`)"
    relative = posixpath.relpath(page, posixpath.dirname(place) or ".")
    return f"[{text}]({relative}{'#' + anchor if anchor else ''})"
