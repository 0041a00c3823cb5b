"""The documentation builds strictly, and what a reader's browser loads of it comes from nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.fences import pages
from tests.e2e.browser import browser_path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "images"
AT_MOST = 100_000

LOADED = {"src", "srcset", "data", "poster"}
"""Attributes whose target a browser loads."""
LOADED_BY_HREF = {"link", "use", "image"}
_TOLD = {"canonical", "next", "prev"}
"""Links of a head that say where something is, and load nothing."""
_FOREIGN = re.compile(r"(?:^|[\s,])(?:https?:)?//[^\s,]+")
_IN_CSS = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])((?:https?:)?//[^\"')\s]+)")


class Loads(HTMLParser):
    """Collects what a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.classes: set[str] = set()
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.classes |= set(of.get("class", "").split())
        self._style = tag == "style"
        for name, value in of.items():
            loads = name in LOADED or (tag in LOADED_BY_HREF and name in ("href", "xlink:href"))
            if loads and _FOREIGN.search(value) and not (tag == "link" and of.get("rel") in _TOLD):
                self.foreign.append(f"<{tag} {name}={value!r}>")
        self.foreign += _IN_CSS.findall(of.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._style:
            self.foreign += _IN_CSS.findall(data)


def loads(html: str) -> Loads:
    found = Loads()
    found.feed(html)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    for name in ("mkdocs", "material", "mermaidx", "latex2mathml"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    found = {}
    for page in site.rglob("*.html"):
        looked = loads(page.read_text())
        # the theme would fetch a library for these
        assert "mermaid" not in looked.classes, page
        found[str(page.relative_to(site))] = looked.foreign
    assert len(found) > 40
    assert {page: foreign for page, foreign in found.items() if foreign} == {}
    assert [match for sheet in site.rglob("*.css") for match in _IN_CSS.findall(sheet.read_text())] == []


def test_what_would_be_loaded_from_another_host_is_found() -> None:
    for bad in (
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img src="a.png" srcset="a.png 1x, https://b.example/a.png 2x">',
        "<style>@import 'https://a.example/b.css';</style>",
        '<p style="background: url(https://a.example/b.png)">',
        '<svg><image xlink:href="http://a.example/b.png"/></svg>',
    ):
        assert loads(bad).foreign, bad
    fine = '<a href="https://a.example">a</a><img src="b.png"><link rel="canonical" href="https://c.example">'
    assert loads(fine).foreign == []


def test_formulae_and_diagrams_are_drawn(site: Path) -> None:
    page = (site / "how-it-works" / "index.html").read_text()
    source = (ROOT / "docs" / "how-it-works.md").read_text()
    blocks = source.count("$$") // 2
    assert blocks > 10
    assert page.count('<div class="formula">') == blocks
    assert "arithmatex" not in page
    assert (site / "architecture" / "index.html").read_text().count('<figure class="diagram"><svg') == 1


def test_the_page_of_the_api_has_every_operation(site: Path) -> None:
    page = (site / "api" / "index.html").read_text()
    for told in ("POST /v1/recommendations", "DELETE /v1/users/{user_id}/history", "GET /readyz", "mmr_lambda"):
        assert told in page


def test_pictures_are_small_and_shown() -> None:
    shown = " ".join(page.read_text() for page in pages())
    kept = sorted(KEPT.glob("*.*"))
    assert len(kept) >= 4
    for picture in kept:
        assert picture.stat().st_size <= AT_MOST, picture
        assert f"images/{picture.name})" in shown, picture


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH: apt-get install chromium")
def test_a_browser_asks_no_other_host(address: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    asked: list[str] = []
    paths = ("/", "/how-it-works/", "/architecture/", "/api/")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for path in paths:
            page.goto(address + path, wait_until="networkidle")
        browser.close()
    assert {address + path for path in paths} <= set(asked)
    assert any(url.endswith(".js") for url in asked)
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
