"""The pages: they are there, ask no other host, and hold nothing that a strict policy forbids."""

from __future__ import annotations

import re

import pytest

from services.gateway.storefront.pages import PREFIX, STATIC

PAGES = {"/": "shop.html", f"{PREFIX}/models": "models.html", f"{PREFIX}/live": "live.html"}
FILES = sorted(path for path in STATIC.iterdir() if path.suffix in {".html", ".js", ".css", ".svg"})


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_and_all_it_names(open_gateway, path):
    async with open_gateway(storefront=True) as client:
        page = await client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "unsafe" not in page.headers["content-security-policy"]
        named = re.findall(r'(?:src|href)="(/storefront/[^"]+)"', page.text)
        assert named
        for one in named:
            found = await client.get(one)
            assert found.status_code == 200, one
            assert "content-security-policy" in found.headers


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_nothing_inline_and_no_other_host(file):
    text = file.read_text()
    hosts = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not hosts
    if file.suffix == ".html":
        assert "style=" not in text
        assert not re.search(r"\son\w+=", text)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
        assert "<style" not in text
    if file.suffix == ".js":
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert (STATIC / name).is_file(), name


async def test_an_unchanged_file_is_not_sent_again(open_gateway):
    async with open_gateway(storefront=True) as client:
        first = await client.get(f"{PREFIX}/files/dom.js")
        again = await client.get(f"{PREFIX}/files/dom.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_files_outside_the_folder_are_not_found(open_gateway):
    async with open_gateway(storefront=True) as client:
        assert (await client.get(f"{PREFIX}/files/%2e%2e/pages.py")).status_code == 404
